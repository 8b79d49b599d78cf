"""Work goes on only while somebody waits for it: until the caller hangs up, or the time is over."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from dataclasses import dataclass, field
from typing import TypeVar

from starlette.requests import Request

from ..errors import ClientGone

T = TypeVar("T")

ROUND_S = 0.02


class Deadlines:
    """Watches over all work of an event loop, in rounds of 20 ms; a timer for each would cost small requests more.

    Most work is done before a round comes by, and nobody need be watched.
    """

    def __init__(self) -> None:
        self._watched: set[_Watched] = set()
        self._round: asyncio.TimerHandle | None = None

    async def keep(self, work: Awaitable[T], limit_s: float, error: Exception, request: Request | None = None) -> T:
        """What the work gives; it is cancelled when it takes too long, to a round.

        With a request, also when its caller hangs up; its body must have been read.

        Raises:
            error: the time is over.
            ClientGone: the caller hung up.
        """
        loop, task = asyncio.get_running_loop(), asyncio.current_task()
        assert task  # noqa: S101  # a coroutine is always awaited in a task
        watched = _Watched(task, loop.time() + limit_s, error, request, task.cancelling())
        self._watched.add(watched)
        if self._round is None:
            self._round = loop.call_later(ROUND_S, self._look)
        try:
            return await work
        except asyncio.CancelledError:
            if watched.was_ended():
                raise watched.error from None
            raise
        finally:
            self._watched.discard(watched)
            watched.forget()

    def _look(self) -> None:
        """Go round, and again if there is somebody."""
        loop = asyncio.get_running_loop()
        for watched in self._watched:
            watched.look(loop.time())
        self._round = loop.call_later(ROUND_S, self._look) if self._watched else None


@dataclass(eq=False)
class _Watched:
    task: asyncio.Task[object]
    ends_at: float
    error: Exception
    request: Request | None
    cancelled_before: int
    is_ended: bool = False
    listener: asyncio.Task[None] | None = field(default=None)

    def look(self, now: float) -> None:
        """End the work if its time is over; else begin to listen whether its caller is there."""
        if now >= self.ends_at:
            self._end()
        elif self.request is not None and self.listener is None:
            self.listener = asyncio.create_task(self._listen(self.request))

    def was_ended(self) -> bool:
        """Whether this, and nobody else, is why the task is being cancelled."""
        return self.is_ended and self.task.uncancel() <= self.cancelled_before

    def forget(self) -> None:
        """Listen no longer."""
        if self.listener:
            self.listener.cancel()

    def _end(self) -> None:
        if not self.is_ended:
            self.is_ended = True
            self.task.cancel()

    async def _listen(self, request: Request) -> None:
        while (await request.receive())["type"] != "http.disconnect":
            pass
        self.error = ClientGone()
        self._end()
