"""The queue in front of one model. It knows neither HTTP nor torch: payloads go in, and answers come back.

There is no timer. An idle model answers at once; while it computes, others queue, and what has queued for one
operation is the next batch. The queue is counted in images and bounded. A caller who leaves takes their place along.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from ..errors import Overloaded

Payload = TypeVar("Payload")
Result = TypeVar("Result")

Run = Callable[[str, Sequence[Payload]], Awaitable[Sequence[Result | Exception]]]


@dataclass(frozen=True)
class Answer(Generic[Result]):
    """A result, and how long it waited and was computed."""

    result: Result
    queue_s: float
    compute_s: float


@dataclass(eq=False)
class _Ticket(Generic[Payload, Result]):
    operation: str
    payload: Payload
    images: int
    answer: asyncio.Future[Answer[Result]]
    entered: float = field(default_factory=time.perf_counter)


class Batcher(Generic[Payload, Result]):
    """Gathers payloads into batches for `run(operation, payloads)`, which gives a result or an error for each.

    One batch is computed at a time, of at most `max_batch_images` images unless a single payload has more.
    `batch_computed` is told each batch's operation and images.

    Attributes:
        waiting_images: images in the queue.
    """

    def __init__(
        self,
        run: Run[Payload, Result],
        *,
        max_batch_images: int,
        queue_images: int,
        batch_computed: Callable[[str, int], None],
    ) -> None:
        self._run = run
        self._max_batch_images = max_batch_images
        self._queue_images = queue_images
        self._batch_computed = batch_computed
        self._queues: dict[str, deque[_Ticket[Payload, Result]]] = {}
        self._worker: asyncio.Task[None] | None = None
        self._images_per_s = math.inf
        self.waiting_images = 0

    async def ask(self, operation: str, payload: Payload, images: int, *, is_begun: bool = False) -> Answer[Result]:
        """The answer to one payload of that many images.

        Whose work `is_begun` is never turned away: what was computed for them would be lost.

        Raises:
            Overloaded: the queue has no room for them.
        """
        if not is_begun and self.waiting_images and self.waiting_images + images > self._queue_images:
            raise Overloaded(
                waiting=self.waiting_images, limit=self._queue_images, retry_after_s=self._seconds_to_clear()
            )
        ticket: _Ticket[Payload, Result] = _Ticket(operation, payload, images, asyncio.Future())
        queue = self._queues.setdefault(operation, deque())
        queue.append(ticket)
        self.waiting_images += images
        if self._worker is None or self._worker.done():
            self._worker = asyncio.create_task(self._work())
        try:
            return await ticket.answer
        except asyncio.CancelledError:
            if ticket in queue:
                queue.remove(ticket)
                self.waiting_images -= images
            raise

    async def _work(self) -> None:
        """One batch after the other, until nobody waits; the next caller starts it again."""
        while self.waiting_images:
            await self._answer(self._next_batch())

    def _next_batch(self) -> list[_Ticket[Payload, Result]]:
        """The ticket that waits longest, and those behind it that ask for the same operation, while there is room."""
        queue = min((queue for queue in self._queues.values() if queue), key=lambda queue: queue[0].entered)
        batch = [queue.popleft()]
        room = self._max_batch_images - batch[0].images
        while queue and queue[0].images <= room:
            batch.append(queue.popleft())
            room -= batch[-1].images
        self.waiting_images -= sum(ticket.images for ticket in batch)
        return batch

    async def _answer(self, batch: Sequence[_Ticket[Payload, Result]]) -> None:
        began = time.perf_counter()
        operation, images = batch[0].operation, sum(ticket.images for ticket in batch)
        results = await self._results(operation, [ticket.payload for ticket in batch])
        compute_s = time.perf_counter() - began
        self._images_per_s = images / compute_s
        self._batch_computed(operation, images)
        for ticket, result in zip(batch, results, strict=True):
            if ticket.answer.done():
                continue
            if isinstance(result, Exception):
                ticket.answer.set_exception(result)
            else:
                ticket.answer.set_result(Answer(result, began - ticket.entered, compute_s))

    async def _results(self, operation: str, payloads: Sequence[Payload]) -> Sequence[Result | Exception]:
        """As many results as payloads, whatever happens: an error that meets the batch meets each of them."""
        try:
            results = await self._run(operation, payloads)
        except Exception as error:
            return [error] * len(payloads)
        if len(results) != len(payloads):
            bug = RuntimeError(f"{len(payloads)} payloads gave {len(results)} results. This is a bug.")
            return [bug] * len(payloads)
        return results

    def _seconds_to_clear(self) -> int:
        """How long the queue will take at the pace of the last batch, in whole seconds, 1 to 60."""
        return min(60, max(1, round(self.waiting_images / self._images_per_s)))
