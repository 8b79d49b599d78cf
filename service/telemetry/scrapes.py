"""Scrapes: the text of the metrics, made beside the event loop, and once a second at most for all that ask for it."""

from __future__ import annotations

import asyncio
import time

from .metrics import Metrics

EVERY_S = 1.0  # the text of many models and workers takes 10 ms and more


class Scrapes:
    """Gives every scrape a text that was begun after the scrape came; scrapes that wait share one text."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self._next: asyncio.Task[bytes] | None = None  # not begun yet
        self._began_at = -EVERY_S
        self._one_at_a_time = asyncio.Lock()

    async def text(self) -> bytes:
        """The metrics in Prometheus' exposition format."""
        if self._next is None:
            self._next = asyncio.create_task(self._make())
        return await asyncio.shield(self._next)  # the others still wait when one of the clients has left

    async def _make(self) -> bytes:
        async with self._one_at_a_time:
            await asyncio.sleep(self._began_at + EVERY_S - time.monotonic())
            self._next, self._began_at = None, time.monotonic()
            self._metrics.count_tasks()
            return await asyncio.to_thread(self._metrics.text)
