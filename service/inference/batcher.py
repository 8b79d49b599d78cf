"""The queue in front of one model, and the policy of batching: which work goes together, in which sizes and order.

There is no timer. An idle model answers at once; while it computes, other requests queue, and the requests with the
same key that have queued meanwhile are the next batch. A key stands for a forward pass and the shapes of its rows, so
that images of two sizes never meet in one batch. The queue is bounded, and counted in images. A request whose caller
leaves is dropped from the queue.

The batcher knows neither HTTP nor torch: payloads go in, and results come out.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections import deque
from collections.abc import Awaitable, Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import Generic, NamedTuple, TypeVar

from ..errors import QueueFull

Key = TypeVar("Key", bound=Hashable)
Payload = TypeVar("Payload")
Result = TypeVar("Result")

PART_S = 0.0005  # a part of a large request takes about as long; then other requests have a turn
SMALL_WORK_EXPECTED_S = 0.25  # after small work, more small work is expected for so long

Run = Callable[[Key, Sequence[Payload]], Awaitable[Sequence[Result | Exception]]]


def part_images(seconds: Mapping[int, float]) -> int:
    """The images of a large request that are computed before others have a turn, given the seconds of each batch size.

    The largest batch that takes at most `PART_S`, or the smallest if all take longer.
    """
    return max((size for size, batch_s in seconds.items() if batch_s <= PART_S), default=min(seconds))


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
class _Ticket(Generic[Key, Payload, Result]):
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
        return self.parts[0].images

    @property
    def waiting_images(self) -> int:
        return sum(part.images for part in self.parts)


class _Taken(NamedTuple, Generic[Key, Payload, Result]):
    """A part whose turn has come, and its ticket."""

    ticket: _Ticket[Key, Payload, Result]
    part: Part[Payload]


class Batcher(Generic[Key, Payload, Result]):
    """Gathers payloads into batches for `run(key, payloads)`, which returns a result or an error for each payload.

    One batch is computed at a time. It has at most `max_batch_images(key)` images, unless a single part has more.
    Large work (several parts) takes turns with small work (one part). While small work is expected, a turn of large
    work is a single part, so that small work need not wait for long. Among work of the same kind, the longest wait goes
    first, so that queues with different keys take turns.

    `batch_computed` is called with the key and the images of each batch, `queue_changed` with the images that wait.

    Attributes:
        run: the function that computes a batch; a test may wrap it.
        waiting_images: images in the queue.
    """

    def __init__(
        self,
        run: Run[Key, Payload, Result],
        *,
        max_batch_images: Callable[[Key], int],
        queue_images: int,
        batch_computed: Callable[[Key, int], None],
        queue_changed: Callable[[int], None],
    ) -> None:
        self.run = run
        self._max_batch_images = max_batch_images
        self._queue_images = queue_images
        self._batch_computed = batch_computed
        self._queue_changed = queue_changed
        # Only queues with a ticket: clients choose the shapes of images, so empty queues would pile up.
        self._queues: dict[tuple[Key, bool], deque[_Ticket[Key, Payload, Result]]] = {}
        self._was_large = False
        self._last_small = -math.inf
        self._worker: asyncio.Task[None] | None = None
        self._images_per_s = math.inf
        self.waiting_images = 0

    async def ask(self, key: Key, parts: Sequence[Part[Payload]], *, is_begun: bool = False) -> Answer[Result]:
        """Queue the parts of a request, at least one, and return their results.

        A request that `is_begun` is always admitted: the results that it has so far would be lost.

        Raises:
            QueueFull: the queue has no room for the images.
        """
        ticket: _Ticket[Key, Payload, Result] = _Ticket(key, deque(parts), asyncio.Future())
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
        """Check that the queue has room for the images, before work is done on them that would be lost.

        Raises:
            QueueFull: the queue has no room for the images.
        """
        if self.waiting_images and self.waiting_images + images > self._queue_images:
            clear_s = self.waiting_images / self._images_per_s  # at the speed of the last batch
            raise QueueFull(
                waiting=self.waiting_images, limit=self._queue_images, retry_after_s=min(60, max(1, round(clear_s)))
            )

    def _count(self, images: int) -> None:
        self.waiting_images += images
        self._queue_changed(self.waiting_images)

    def _enter(self, ticket: _Ticket[Key, Payload, Result]) -> None:
        ticket.since = time.perf_counter()
        if not ticket.is_large:
            self._last_small = ticket.since
        self._queues.setdefault((ticket.key, ticket.is_large), deque()).append(ticket)

    def _leave(self, ticket: _Ticket[Key, Payload, Result]) -> None:
        """Drop the parts that still wait. A ticket whose parts are being computed is in no queue."""
        self._count(-ticket.waiting_images)
        ticket.parts.clear()
        place = (ticket.key, ticket.is_large)
        if ticket in (queue := self._queues.get(place, deque())):
            queue.remove(ticket)
            self._drop_if_empty(place)

    def _drop_if_empty(self, place: tuple[Key, bool]) -> None:
        if not self._queues[place]:
            del self._queues[place]

    async def _work(self) -> None:
        """Compute one batch after the other until the queue is empty; the next request starts this task again."""
        await self._gather()
        while self.waiting_images:
            await self._compute(self._next_batch())
            await self._gather()

    async def _gather(self) -> None:
        """Yield to the event loop until two turns bring no new request, so that a burst shares one batch.

        This is not a timer: on an idle service it takes two turns. In the first turn the event loop notices a request
        that arrived during the last batch, in the second it reads the request. Answers are sent meanwhile.
        """
        quiet_turns = 0
        while quiet_turns < 2:
            before = self.waiting_images
            await asyncio.sleep(0)
            quiet_turns = quiet_turns + 1 if self.waiting_images == before else 0

    def _next_batch(self) -> list[_Taken[Key, Payload, Result]]:
        """Take parts from the queue whose turn it is, as many as fit into one batch."""
        place = self._next_place()
        queue = self._queues[place]
        room = self._room(queue[0])
        batch: list[_Taken[Key, Payload, Result]] = []
        while queue and queue[0].next_images <= room:
            ticket = queue.popleft()
            while ticket.parts and ticket.next_images <= room:
                batch.append(_Taken(ticket, ticket.parts.popleft()))
                room -= batch[-1].part.images
            if ticket.parts:
                break  # `_hand_over` puts the ticket behind the others when these parts are computed
        self._drop_if_empty(place)
        self._was_large = batch[0].ticket.is_large
        self._count(-sum(taken.part.images for taken in batch))
        return batch

    def _next_place(self) -> tuple[Key, bool]:
        """The queue whose turn it is: small after large and large after small work, then the longest wait."""
        others = [(key, is_large) for key, is_large in self._queues if is_large != self._was_large]
        return min(others or self._queues, key=lambda place: self._queues[place][0].since)

    def _room(self, first: _Ticket[Key, Payload, Result]) -> int:
        """The number of images that fit into a batch which begins with this ticket."""
        if first.is_large and time.perf_counter() - self._last_small < SMALL_WORK_EXPECTED_S:
            return first.next_images
        return max(self._max_batch_images(first.key), first.next_images)

    async def _compute(self, batch: Sequence[_Taken[Key, Payload, Result]]) -> None:
        began = time.perf_counter()
        key, images = batch[0].ticket.key, sum(taken.part.images for taken in batch)
        results = await self._results(key, [taken.part.payload for taken in batch])
        compute_s = time.perf_counter() - began
        self._images_per_s = images / compute_s
        self._batch_computed(key, images)
        for ticket, own in groupby(zip(batch, results, strict=True), key=lambda pair: pair[0].ticket):
            ticket.queue_s += began - ticket.since
            ticket.compute_s += compute_s
            self._hand_over(ticket, [result for _, result in own])

    def _hand_over(self, ticket: _Ticket[Key, Payload, Result], results: Sequence[Result | Exception]) -> None:
        """Give a ticket the results of some parts. It is answered after its last part, or at the first error."""
        if ticket.answer.done():
            return  # the caller has left
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

    async def _results(self, key: Key, payloads: Sequence[Payload]) -> Sequence[Result | Exception]:
        """Return one result for each payload; an error of the whole batch is the result of each."""
        try:
            results = await self.run(key, payloads)
        except Exception as error:
            return [error] * len(payloads)
        if len(results) != len(payloads):
            bug = RuntimeError(f"{len(payloads)} payloads gave {len(results)} results. This is a bug.")
            return [bug] * len(payloads)
        return results
