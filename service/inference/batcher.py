"""The queue in front of one model. It knows neither HTTP nor torch: payloads go in, and answers come back.

There is no timer. An idle model answers at once; while it computes, others queue, and what has queued for one
operation is the next batch. The queue is counted in images and bounded. When a caller leaves, the place is free.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import Generic, NamedTuple, TypeVar

from ..errors import Overloaded

Payload = TypeVar("Payload")
Result = TypeVar("Result")

SMALL_WORK_STAYS_S = 0.25  # after small work, more of it is expected for so long

Run = Callable[[str, Sequence[Payload]], Awaitable[Sequence[Result | Exception]]]


@dataclass(frozen=True)
class Answer(Generic[Result]):
    """The result of each part, and how long they waited and were computed."""

    results: Sequence[Result]
    queue_s: float
    compute_s: float


class Part(NamedTuple, Generic[Payload]):
    """A piece of a caller's work that is computed at once, and its number of images."""

    payload: Payload
    images: int


@dataclass(eq=False)
class _Ticket(Generic[Payload, Result]):
    operation: str
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
        return self.parts[0].images

    @property
    def waiting_images(self) -> int:
        return sum(part.images for part in self.parts)


class _Taken(NamedTuple, Generic[Payload, Result]):
    """A part whose turn has come, and the ticket that it belongs to."""

    ticket: _Ticket[Payload, Result]
    part: Part[Payload]


class Batcher(Generic[Payload, Result]):
    """Gathers payloads into batches for `run(operation, payloads)`, which gives a result or an error for each.

    One batch is computed at a time, of at most `max_batch_images(operation)` images unless a single part has more.
    Large work, which has several parts, takes turns with small work, which has one; and while there is small work, a
    turn of large work is a single part, so that the small need not wait for long.
    `batch_computed` is told each batch's operation and images, `queue_changed` how many images wait.

    Attributes:
        run: what computes a batch; a test may put something before it.
        waiting_images: images in the queue.
    """

    def __init__(
        self,
        run: Run[Payload, Result],
        *,
        max_batch_images: Callable[[str], int],
        queue_images: int,
        batch_computed: Callable[[str, int], None],
        queue_changed: Callable[[int], None],
    ) -> None:
        self.run = run
        self._max_batch_images = max_batch_images
        self._queue_images = queue_images
        self._batch_computed = batch_computed
        self._queue_changed = queue_changed
        self._queues: dict[tuple[str, bool], deque[_Ticket[Payload, Result]]] = {}
        self._was_large = False
        self._last_small = -math.inf
        self._worker: asyncio.Task[None] | None = None
        self._images_per_s = math.inf
        self.waiting_images = 0

    async def ask(self, operation: str, parts: Sequence[Part[Payload]], *, is_begun: bool = False) -> Answer[Result]:
        """The answer to some parts, at least one.

        Whose work `is_begun` is never turned away: what was computed for them would be lost.

        Raises:
            Overloaded: the queue has no room for them.
        """
        ticket: _Ticket[Payload, Result] = _Ticket(operation, deque(parts), asyncio.Future())
        if not is_begun:
            self.check_room(ticket.waiting_images)
        self._count(ticket.waiting_images)
        self._enter(ticket)
        if self._worker is None or self._worker.done():
            self._worker = asyncio.create_task(self._work())
        try:
            return await ticket.answer
        except asyncio.CancelledError:
            self._leave(ticket)
            raise

    def check_room(self, images: int) -> None:
        """Refuse images before anything is done for them that would be lost.

        Raises:
            Overloaded: the queue has no room for them.
        """
        if self.waiting_images and self.waiting_images + images > self._queue_images:
            raise Overloaded(
                waiting=self.waiting_images, limit=self._queue_images, retry_after_s=self._seconds_to_clear()
            )

    def _count(self, images: int) -> None:
        self.waiting_images += images
        self._queue_changed(self.waiting_images)

    def _enter(self, ticket: _Ticket[Payload, Result]) -> None:
        ticket.since = time.perf_counter()
        if not ticket.is_large:
            self._last_small = ticket.since
        self._queues.setdefault((ticket.operation, ticket.is_large), deque()).append(ticket)

    def _leave(self, ticket: _Ticket[Payload, Result]) -> None:
        """Nothing more of it is computed."""
        self._count(-ticket.waiting_images)
        ticket.parts.clear()
        if ticket in (queue := self._queues[ticket.operation, ticket.is_large]):
            queue.remove(ticket)

    async def _work(self) -> None:
        """One batch after the other, until nobody waits; the next caller starts it again."""
        await self._gather()
        while self.waiting_images:
            await self._compute(self._next_batch())
            await self._gather()

    async def _gather(self) -> None:
        """Let the event loop turn while turns bring somebody: callers come in flocks, one behind the other.

        This is no timer: where nobody comes, it is over after two turns. In the first a request is heard that came
        during the last batch, in the second it is read; answers are sent meanwhile.
        """
        quiet_turns = 0
        while quiet_turns < 2:
            before = self.waiting_images
            await asyncio.sleep(0)
            quiet_turns = quiet_turns + 1 if self.waiting_images == before else 0

    def _next_batch(self) -> list[_Taken[Payload, Result]]:
        """Parts of the ticket whose turn it is, and of those behind it in its queue, while there is room."""
        queue = min((queue for queue in self._queues.values() if queue), key=self._turn)
        self._was_large = queue[0].is_large
        batch, room = [], self._room(queue[0])
        while queue and queue[0].next_images <= room:
            taken = _Taken(queue[0], queue[0].parts.popleft())
            batch.append(taken)
            room -= taken.part.images
            if not taken.ticket.parts:
                queue.popleft()
        if queue and queue[0] is taken.ticket:
            queue.popleft()  # it comes back behind the others, when these parts are computed
        self._count(-sum(taken.part.images for taken in batch))
        return batch

    def _room(self, first: _Ticket[Payload, Result]) -> int:
        """For how many images there is room in a batch that begins with a ticket."""
        if first.is_large and time.perf_counter() - self._last_small < SMALL_WORK_STAYS_S:
            return first.next_images
        return max(self._max_batch_images(first.operation), first.next_images)

    def _turn(self, queue: deque[_Ticket[Payload, Result]]) -> tuple[bool, float]:
        """The smallest goes first: small work after large and large after small, then the longest wait."""
        return queue[0].is_large == self._was_large, queue[0].since

    async def _compute(self, batch: Sequence[_Taken[Payload, Result]]) -> None:
        began = time.perf_counter()
        operation, images = batch[0].ticket.operation, sum(taken.part.images for taken in batch)
        results = await self._results(operation, [taken.part.payload for taken in batch])
        compute_s = time.perf_counter() - began
        self._images_per_s = images / compute_s
        self._batch_computed(operation, images)
        for ticket, own in groupby(zip(batch, results, strict=True), key=lambda pair: pair[0].ticket):
            ticket.queue_s += began - ticket.since
            ticket.compute_s += compute_s
            self._hand_over(ticket, [result for _, result in own])

    def _hand_over(self, ticket: _Ticket[Payload, Result], results: Sequence[Result | Exception]) -> None:
        """Some parts' results; the caller may have left, or have more parts, or an error that makes them needless."""
        if ticket.answer.done():
            return
        for result in results:
            if isinstance(result, Exception):
                self._leave(ticket)
                ticket.answer.set_exception(result)
                return
            ticket.results.append(result)
        if ticket.parts:
            self._enter(ticket)
        else:
            ticket.answer.set_result(Answer(ticket.results, ticket.queue_s, ticket.compute_s))

    async def _results(self, operation: str, payloads: Sequence[Payload]) -> Sequence[Result | Exception]:
        """As many results as payloads, whatever happens: an error that meets the batch meets each of them."""
        try:
            results = await self.run(operation, payloads)
        except Exception as error:
            return [error] * len(payloads)
        if len(results) != len(payloads):
            bug = RuntimeError(f"{len(payloads)} payloads gave {len(results)} results. This is a bug.")
            return [bug] * len(payloads)
        return results

    def _seconds_to_clear(self) -> int:
        """How long the queue will take at the pace of the last batch, in whole seconds, 1 to 60."""
        return min(60, max(1, round(self.waiting_images / self._images_per_s)))
