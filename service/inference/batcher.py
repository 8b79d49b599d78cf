"""Batches of the requests for one model: rows of many requests are computed together.

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
from collections.abc import Awaitable, Callable, Mapping, Sequence
from itertools import groupby
from typing import Generic

from ..errors import QueueFull
from .work_queue import Answer, Key, Part, Payload, Result, Taken, Ticket, WorkQueue

PART_S = 0.0005  # a part of a large request takes about as long; then other requests have a turn

Run = Callable[[Key, Sequence[Payload]], Awaitable[Sequence[Result | Exception]]]


def part_images(seconds: Mapping[int, float]) -> int:
    """The images of a large request that are computed before others have a turn, given the seconds of each batch size.

    The largest batch that takes at most `PART_S`, or the smallest if all take longer.
    """
    return max((size for size, batch_s in seconds.items() if batch_s <= PART_S), default=min(seconds))


async def one_result_each(
    run: Run[Key, Payload, Result], key: Key, payloads: Sequence[Payload]
) -> Sequence[Result | Exception]:
    """Run a batch; return one result for each payload. An error of the whole batch is the result of each payload."""
    try:
        results = await run(key, payloads)
    except Exception as error:
        return [error] * len(payloads)
    if len(results) != len(payloads):
        bug = RuntimeError(f"{len(payloads)} payloads gave {len(results)} results. This is a bug.")
        return [bug] * len(payloads)
    return results


class Batcher(Generic[Key, Payload, Result]):
    """Gathers payloads into batches for `run(key, payloads)`, which returns a result or an error for each payload.

    One batch is computed at a time. It has at most `max_batch_images(key)` images, unless a single part has more. The
    queue decides whose turn it is.

    `batch_computed` is called with the key and the images of each batch, `queue_changed` with the images that wait.

    Attributes:
        run: the function that computes a batch; a test may wrap it.
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
        self._queue: WorkQueue[Key, Payload, Result] = WorkQueue(
            max_batch_images=max_batch_images, changed=queue_changed
        )
        self._queue_images = queue_images
        self._batch_computed = batch_computed
        self._worker: asyncio.Task[None] | None = None
        self._images_per_s = math.inf

    @property
    def waiting_images(self) -> int:
        """Images in the queue."""
        return self._queue.images

    async def ask(self, key: Key, parts: Sequence[Part[Payload]], *, is_begun: bool = False) -> Answer[Result]:
        """Queue the parts of a request, at least one, and return their results.

        A request that `is_begun` is always admitted: the results that it has so far would be lost.

        Raises:
            QueueFull: the queue has no room for the images.
        """
        ticket: Ticket[Key, Payload, Result] = Ticket(key, deque(parts), asyncio.Future())
        if not is_begun:
            self.check_room(ticket.waiting_images)
        self._queue.enter(ticket)
        if self._worker is None or self._worker.done():
            self._worker = asyncio.create_task(self._work())
        try:
            return await ticket.answer
        except asyncio.CancelledError:
            self._queue.leave(ticket)
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

    async def _work(self) -> None:
        """Compute one batch after the other until the queue is empty; the next request starts this task again."""
        while True:
            # Yield to the event loop until two turns bring no new request, so that a burst shares one batch. This is
            # not a timer: on an idle service it takes two turns. In the first turn the event loop notices a request
            # that arrived during the last batch, in the second it reads the request. Answers are sent meanwhile.
            quiet_turns = 0
            while quiet_turns < 2:
                before = self.waiting_images
                await asyncio.sleep(0)
                quiet_turns = quiet_turns + 1 if self.waiting_images == before else 0
            if not self.waiting_images:
                return
            await self._compute(self._queue.take_batch())

    async def _compute(self, batch: Sequence[Taken[Key, Payload, Result]]) -> None:
        """Compute a batch, and give each ticket its results. A ticket with more parts queues again."""
        began = time.perf_counter()
        key, images = batch[0].ticket.key, sum(taken.part.images for taken in batch)
        results = await one_result_each(self.run, key, [taken.part.payload for taken in batch])
        compute_s = time.perf_counter() - began
        self._images_per_s = images / compute_s
        self._batch_computed(key, images)
        for ticket, own in groupby(zip(batch, results, strict=True), key=lambda pair: pair[0].ticket):
            ticket.queue_s += began - ticket.since
            ticket.compute_s += compute_s
            ticket.accept([result for _, result in own])
            if ticket.answer.done():
                self._queue.leave(ticket)  # no part is left, or the answer has failed or was cancelled
            else:
                self._queue.enter_again(ticket)
