"""Batches of the requests for one model: rows of many requests are computed together.

There is no timer. An idle model answers at once; while it computes, other requests queue, and the requests with the
same key that have queued meanwhile are the next batch. A key stands for a forward pass and the shapes of its rows, so
that images of two sizes never meet in one batch. The queue is bounded, and counted in images. Each client may have as
many images in it as places are free, so that one client takes half of it at most, k clients 1/(k+1) each, and a new
client finds room. This is the dynamic threshold of Choudhury and Hahne, "Dynamic queue length thresholds for
shared-memory packet switches" (IEEE/ACM Transactions on Networking 6(2), 1998), with α = 1. A request whose caller
leaves is dropped from the queue.

The batcher knows neither HTTP nor torch: payloads go in, and results come out.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from itertools import groupby
from typing import Generic

from ..errors import QueueFull
from .work_queue import Answer, Key, Part, Payload, Result, Taken, Ticket, WorkQueue

PART_S = 0.0005  # a part of a large request takes about as long; then other requests have a turn
# A turn of large work may take this share of the time between two batches, so that large work advances also when the
# event loop is slow: with parts of PART_S, 256 images beside 12 clients of a slow /metrics took 26.7 s (November 2026).
LARGE_SHARE = 0.5
# Clients that come and go in each turn of the event loop must not hold up the others. A batch begins after a long turn,
# and at once if its first request has waited for one: each further turn would cost 3 to 10 ms beside attackers.
MOST_TURNS, MOST_GATHER_S = 32, 0.001
TURN_S = 0.001  # batches of small work with different keys follow each other without a pause for so long

Run = Callable[[Key, Sequence[Payload]], Awaitable[Sequence[Result | Exception]]]


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

    One batch is computed at a time. It has at most `images_within(key, math.inf)` images, unless a single part has
    more. The queue decides whose turn it is.

    `batch_computed` is called with the key and the images of each batch, `queue_changed` with the images that wait.

    Attributes:
        run: the function that computes a batch; a test may wrap it.
    """

    def __init__(
        self,
        run: Run[Key, Payload, Result],
        *,
        images_within: Callable[[Key, float], int],
        queue_images: int,
        batch_computed: Callable[[Key, int], None],
        queue_changed: Callable[[int], None],
    ) -> None:
        self.run = run
        self._queue: WorkQueue[Key, Payload, Result] = WorkQueue(images_within=images_within, changed=queue_changed)
        self._queue_images = queue_images
        self._batch_computed = batch_computed
        self._worker: asyncio.Task[None] | None = None
        self._images_per_s = math.inf
        self._between_batches_s = 0.0  # the time that the event loop takes now for other work, averaged over turns

    @property
    def waiting_images(self) -> int:
        """Images in the queue."""
        return self._queue.images

    async def ask(
        self, key: Key, parts: Sequence[Part[Payload]], *, client: str = "", is_begun: bool = False
    ) -> Answer[Result]:
        """Queue the parts of a client's request, at least one, and return their results.

        A request that `is_begun` is always admitted: the results that it has so far would be lost.

        Raises:
            QueueFull: the queue has no room for the images.
        """
        ticket: Ticket[Key, Payload, Result] = Ticket(key, client, deque(parts), asyncio.Future(), is_begun)
        if not is_begun:
            self.check_room(ticket.waiting_images, client)
        self._queue.enter(ticket)
        if self._worker is None or self._worker.done():
            self._worker = asyncio.create_task(self._work(ticket.since))
        try:
            return await ticket.answer
        except asyncio.CancelledError:
            self._queue.leave(ticket)
            raise

    def check_room(self, images: int, client: str = "") -> None:
        """Check that the queue has room for the client's images, before work is done on them that would be lost.

        An empty queue has room for every request. Requests that are begun do not count: a client with many scores, of
        which each has thousands of draws, would keep all others out. For a single image, the client's requests count
        and not their images, so that its own large requests do not keep it out.

        Raises:
            QueueFull: the queue has no room for the images.
        """
        own, free = self._queue.new_images_of(client), self._queue_images - self._queue.new_images
        counted = self._queue.requests_of(client) if images == 1 else own
        if self._queue.new_images and counted + images > free:
            clear_s = self.waiting_images / self._images_per_s  # at the speed of the last batch
            raise QueueFull(
                images=images,
                own=own,
                free=max(0, free),
                limit=self._queue_images,
                retry_after_s=min(60, max(1, round(clear_s))),
            )

    async def _work(self, since: float) -> None:
        """Compute one batch after the other until the queue is empty; the next request starts this task again.

        `since` is the time at which the first request was queued.
        """
        while True:
            await self._gather(since)
            if not self.waiting_images:
                return
            ends_at = time.perf_counter() + TURN_S
            batch = self._queue.take_batch(LARGE_SHARE * self._between_batches_s)
            small_keys = {taken.ticket.key for taken in batch if not taken.ticket.is_large}
            await self._compute(batch)
            while time.perf_counter() < ends_at and (batch := self._queue.take_small_batch(small_keys)):
                small_keys.add(batch[0].ticket.key)
                await self._compute(batch)
            since = time.perf_counter()

    async def _gather(self, since: float) -> None:
        """Yield to the event loop until two turns bring no new request: a burst shares a batch.

        It ends `MOST_GATHER_S` after `since`, which is the end of the last batch, or the first request after it.

        This is not a timer: on an idle service it takes two turns. In the first turn the event loop notices a request
        that arrived during the last batch, in the second it reads the request. Answers are sent meanwhile.
        """
        quiet_turns = 0
        for _ in range(MOST_TURNS):
            if quiet_turns == 2 or time.perf_counter() - since > MOST_GATHER_S:
                break
            before = self.waiting_images
            await asyncio.sleep(0)
            quiet_turns = quiet_turns + 1 if self.waiting_images == before else 0
        self._between_batches_s = (self._between_batches_s + time.perf_counter() - since) / 2

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
