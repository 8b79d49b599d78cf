"""The requests that wait for one model, and the order of their turns: the policy of batching.

Large work (several parts) takes turns with small work (one part). While small work is expected, a turn of large work is
short, so that small work need not wait for long. Among work of the same kind, clients take turns: a batch takes a
ticket from the line of each client, then a second from each, until it is full. The line that has waited the longest for
a turn decides the key of the batch, so that different keys take turns too.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Collection, Hashable, Sequence
from dataclasses import dataclass, field
from itertools import count
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
    client: str
    parts: deque[Part[Payload]]
    answer: asyncio.Future[Answer[Result]]
    is_begun: bool = False
    """Whether the request has results already. Then its images do not take the place of other requests."""
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


@dataclass(slots=True, eq=False)
class Line(Generic[Key, Payload, Result]):
    """The waiting tickets of one client for one key, and the number of the last turn before which the line waits."""

    since: int
    tickets: deque[Ticket[Key, Payload, Result]] = field(default_factory=deque)


class WorkQueue(Generic[Key, Payload, Result]):
    """Tickets in the order of their turns.

    A batch has at most `images_within(key, seconds)` images: as many as can be computed in that time, or as many as one
    batch may ever have if the time is infinite. A single part may have more. `changed` is called with the images that
    wait, whenever their number changes.

    Attributes:
        images: images that wait, including the waiting parts of a ticket that is computed now.
        new_images: images of these that belong to requests that are not begun.
    """

    def __init__(self, *, images_within: Callable[[Key, float], int], changed: Callable[[int], None]) -> None:
        self._images_within = images_within
        self._changed = changed
        # By key and size of work, then by client, in the order of their turns. Only lines with a ticket: clients choose
        # the shapes of images, so empty lines would pile up.
        self._lines: dict[tuple[Key, bool], OrderedDict[str, Line[Key, Payload, Result]]] = {}
        self._new_images_of: dict[str, int] = {}  # by client
        self._turns = count()
        self._was_large = False
        self._last_small = -math.inf
        self.images = self.new_images = 0

    def new_images_of(self, client: str) -> int:
        """The images that wait and belong to requests of a client that are not begun."""
        return self._new_images_of.get(client, 0)

    def requests_of(self, client: str) -> int:
        """The requests of a client that wait."""
        return sum(len(lines[client].tickets) for lines in self._lines.values() if client in lines)

    def enter(self, ticket: Ticket[Key, Payload, Result]) -> None:
        """Put a new ticket behind the others of its client."""
        self._count(ticket, ticket.waiting_images)
        self._changed(self.images)
        self.enter_again(ticket)

    def enter_again(self, ticket: Ticket[Key, Payload, Result]) -> None:
        """Put a ticket behind the others after a part of it was computed. Its other parts are already counted."""
        ticket.since = time.perf_counter()
        if not ticket.is_large:
            self._last_small = ticket.since
        place = (ticket.key, ticket.is_large)
        if (lines := self._lines.get(place)) is None:
            lines = self._lines[place] = OrderedDict()
        if (line := lines.get(ticket.client)) is None:
            line = lines[ticket.client] = Line(next(self._turns))
        line.tickets.append(ticket)

    def leave(self, ticket: Ticket[Key, Payload, Result]) -> None:
        """Drop the parts that still wait. A ticket whose parts are being computed is in no line."""
        if not ticket.parts:
            return
        self._count(ticket, -ticket.waiting_images)
        self._changed(self.images)
        ticket.parts.clear()
        place = (ticket.key, ticket.is_large)
        lines = self._lines.get(place)
        line = lines.get(ticket.client) if lines else None
        if lines is None or line is None or ticket not in line.tickets:
            return
        line.tickets.remove(ticket)
        if not line.tickets:
            del lines[ticket.client]
        if not lines:
            del self._lines[place]

    def take_batch(self, large_turn_s: float = 0.0) -> list[Taken[Key, Payload, Result]]:
        """Take parts of the work whose turn it is, as many as fit into one batch. A ticket must wait.

        While small work is expected, large work gets as many parts as take `large_turn_s` seconds, but at least one.
        A ticket that has more parts is then in no line, until it enters again or leaves.
        """
        others = [place for place in self._lines if place[1] != self._was_large]
        return self._take(min(others or self._lines, key=self._since), large_turn_s)

    def take_small_batch(self, besides: Collection[Key]) -> list[Taken[Key, Payload, Result]]:
        """Take small work with another key than these, as much as fits into one batch; nothing if none waits."""
        places = [(key, is_large) for key, is_large in self._lines if not is_large and key not in besides]
        return self._take(min(places, key=self._since)) if places else []

    def _since(self, place: tuple[Key, bool]) -> int:
        return next(iter(self._lines[place].values())).since

    def _take(self, place: tuple[Key, bool], large_turn_s: float = 0.0) -> list[Taken[Key, Payload, Result]]:
        key, self._was_large = place
        lines = self._lines[place]
        is_small_expected = time.perf_counter() - self._last_small < SMALL_WORK_EXPECTED_S
        turn_s = large_turn_s if self._was_large and is_small_expected else math.inf
        room = max(next(iter(lines.values())).tickets[0].next_images, self._images_within(key, turn_s))
        batch: list[Taken[Key, Payload, Result]] = []
        while lines:
            client, line = next(iter(lines.items()))
            ticket = line.tickets[0]
            if ticket.next_images > room:
                break
            before = room
            while ticket.parts and ticket.next_images <= room:
                batch.append(Taken(ticket, ticket.parts.popleft()))
                room -= batch[-1].part.images
            self._count(ticket, room - before)
            line.tickets.popleft()
            line.since = next(self._turns)
            if line.tickets:
                lines.move_to_end(client)
            else:
                del lines[client]
            if ticket.parts:
                break
        if not lines:
            del self._lines[place]
        self._changed(self.images)
        return batch

    def _count(self, ticket: Ticket[Key, Payload, Result], images: int) -> None:
        self.images += images
        if ticket.is_begun:
            return
        self.new_images += images
        self._new_images_of[ticket.client] = own = self.new_images_of(ticket.client) + images
        if not own:
            del self._new_images_of[ticket.client]
