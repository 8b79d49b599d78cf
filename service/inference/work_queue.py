"""The requests that wait for one model, and the order of their turns: the policy of batching.

Large work (several parts) takes turns with small work (one part). While small work is expected, a turn of large work is
a single part, so that small work need not wait for long. Among work of the same kind, the longest wait goes first, so
that queues with different keys take turns.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections import deque
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field
from typing import Generic, NamedTuple, TypeVar

Key = TypeVar("Key", bound=Hashable)
Payload = TypeVar("Payload")
Result = TypeVar("Result")

SMALL_WORK_EXPECTED_S = 0.25  # after small work, more small work is expected for so long


@dataclass(frozen=True)
class Answer(Generic[Result]):
    """The results of a request's parts, and how long the parts waited and were computed."""

    results: Sequence[Result]
    queue_s: float
    compute_s: float


class Part(NamedTuple, Generic[Payload]):
    """A piece of a request that is computed at once, and its number of images."""

    payload: Payload
    images: int


@dataclass(eq=False)
class Ticket(Generic[Key, Payload, Result]):
    """A request: the parts that still wait, the results so far, and the future that its caller awaits."""

    key: Key
    parts: deque[Part[Payload]]
    answer: asyncio.Future[Answer[Result]]
    results: list[Result] = field(default_factory=list)
    since: float = field(default_factory=time.perf_counter)
    queue_s: float = 0.0
    compute_s: float = 0.0

    def __post_init__(self) -> None:
        self.is_large = len(self.parts) > 1

    @property
    def next_images(self) -> int:
        """The images of the next part."""
        return self.parts[0].images

    @property
    def waiting_images(self) -> int:
        """The images of all parts that still wait."""
        return sum(part.images for part in self.parts)

    def accept(self, results: Sequence[Result | Exception]) -> None:
        """Take the results of some parts. The request is answered after its last part, or at the first error."""
        if self.answer.done():
            return  # the caller has left
        for result in results:
            if isinstance(result, Exception):
                self.answer.set_exception(result)
                return
            self.results.append(result)
        if not self.parts:
            self.answer.set_result(Answer(self.results, self.queue_s, self.compute_s))


class Taken(NamedTuple, Generic[Key, Payload, Result]):
    """A part whose turn has come, and its ticket."""

    ticket: Ticket[Key, Payload, Result]
    part: Part[Payload]


class WorkQueue(Generic[Key, Payload, Result]):
    """Tickets in the order of their turns. A batch has at most `max_batch_images(key)` images, or else a single part.

    `changed` is called with the images that wait, whenever their number changes.

    Attributes:
        images: images that wait, including the waiting parts of a ticket that is computed now.
    """

    def __init__(self, *, max_batch_images: Callable[[Key], int], changed: Callable[[int], None]) -> None:
        self._max_batch_images = max_batch_images
        self._changed = changed
        # Only queues with a ticket: clients choose the shapes of images, so empty queues would pile up.
        self._queues: dict[tuple[Key, bool], deque[Ticket[Key, Payload, Result]]] = {}
        self._was_large = False
        self._last_small = -math.inf
        self.images = 0

    def enter(self, ticket: Ticket[Key, Payload, Result]) -> None:
        """Put a new ticket behind the others of its key."""
        self._count(ticket.waiting_images)
        self.enter_again(ticket)

    def enter_again(self, ticket: Ticket[Key, Payload, Result]) -> None:
        """Put a ticket behind the others after a part of it was computed. Its other parts are already counted."""
        ticket.since = time.perf_counter()
        if not ticket.is_large:
            self._last_small = ticket.since
        self._queues.setdefault((ticket.key, ticket.is_large), deque()).append(ticket)

    def leave(self, ticket: Ticket[Key, Payload, Result]) -> None:
        """Drop the parts that still wait. A ticket whose parts are being computed is in no queue."""
        if not ticket.parts:
            return
        self._count(-ticket.waiting_images)
        ticket.parts.clear()
        place = (ticket.key, ticket.is_large)
        if ticket in (queue := self._queues.get(place, deque())):
            queue.remove(ticket)
            if not queue:
                del self._queues[place]

    def take_batch(self) -> list[Taken[Key, Payload, Result]]:
        """Take parts from the queue whose turn it is, as many as fit into one batch. A ticket must wait.

        A ticket that has more parts is then in no queue, until it enters again or leaves.
        """
        others = [(key, is_large) for key, is_large in self._queues if is_large != self._was_large]
        place = min(others or self._queues, key=lambda place: self._queues[place][0].since)
        key, self._was_large = place
        queue = self._queues[place]
        room = queue[0].next_images
        if not self._was_large or time.perf_counter() - self._last_small >= SMALL_WORK_EXPECTED_S:
            room = max(room, self._max_batch_images(key))
        batch: list[Taken[Key, Payload, Result]] = []
        while queue and queue[0].next_images <= room:
            ticket = queue.popleft()
            while ticket.parts and ticket.next_images <= room:
                batch.append(Taken(ticket, ticket.parts.popleft()))
                room -= batch[-1].part.images
            if ticket.parts:
                break
        if not queue:
            del self._queues[place]
        self._count(-sum(taken.part.images for taken in batch))
        return batch

    def _count(self, images: int) -> None:
        self.images += images
        self._changed(self.images)
