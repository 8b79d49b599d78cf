"""Work goes on only while somebody waits for it: until the caller hangs up, or the deadline passes."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

from starlette.requests import Request

from .call import Call
from .errors import ClientGone, DeadlineExceeded

T = TypeVar("T")

WATCH_AFTER_S = 0.02  # most answers are there by then, and nobody need be watched


async def while_awaited(call: Call, work: Coroutine[Any, Any, T]) -> T:
    """What the work gives; it is cancelled when nobody waits any more. The request's body must have been read.

    Raises:
        ClientGone: the caller hung up.
        DeadlineExceeded: the time for an answer is over.
    """
    limit_s = call.settings.timeout_s
    try:
        async with asyncio.timeout(limit_s) as deadline:
            watch = _Watch(call.request, deadline)
            try:
                return await work
            finally:
                watch.end()
    except TimeoutError as error:
        if not deadline.expired():
            raise
        raise ClientGone if watch.is_gone else DeadlineExceeded(limit_s) from error


class _Watch:
    """Moves a deadline to now when the caller hangs up."""

    def __init__(self, request: Request, deadline: asyncio.Timeout) -> None:
        self._request = request
        self._deadline = deadline
        self._loop = asyncio.get_running_loop()
        self._task: asyncio.Task[None] | None = None
        self._timer = self._loop.call_later(WATCH_AFTER_S, self._begin)
        self.is_gone = False

    def end(self) -> None:
        """Watch no longer."""
        self._timer.cancel()
        if self._task:
            self._task.cancel()

    def _begin(self) -> None:
        self._task = self._loop.create_task(self._hang_up())

    async def _hang_up(self) -> None:
        while (await self._request.receive())["type"] != "http.disconnect":
            pass
        self.is_gone = True
        self._deadline.reschedule(self._loop.time())
