"""Deadlines: work is cancelled when its time is over, or when the client has hung up."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass
from typing import Any, TypeVar

from ..errors import ClientGone

T = TypeVar("T")

HungUp = Callable[[], Coroutine[Any, Any, None]]
"""Returns when the client has hung up, and not before."""

ROUND_S = 0.02


class Deadlines:
    """Watches all work of an event loop, in rounds of 20 ms.

    Most work ends before the first round, and so needs neither a timer nor a task that listens to the client.
    """

    def __init__(self) -> None:
        self._watched: set[_Watched] = set()
        self._round: asyncio.TimerHandle | None = None

    async def run_until(self, limit_s: float, work: Awaitable[T], error: Exception, hung_up: HungUp | None = None) -> T:
        """The result of the work, which is cancelled in the first round after its time is over.

        With `hung_up` the work is also cancelled when the client hangs up. The request's body must have been read.

        Raises:
            error: the time is over.
            ClientGone: the client has hung up.
        """
        loop, task = asyncio.get_running_loop(), asyncio.current_task()
        assert task  # noqa: S101  # a coroutine is always awaited in a task
        watched = _Watched(task, loop.time() + limit_s, error, hung_up, task.cancelling())
        self._watched.add(watched)
        if self._round is None:
            self._round = loop.call_later(ROUND_S, self._check_all)
        try:
            return await work
        except asyncio.CancelledError:
            if watched.was_cancelled_here():
                raise watched.error from None
            raise
        finally:
            self._watched.discard(watched)
            if watched.listener:
                watched.listener.cancel()
                watched.listener = None
            # An error has the frame of this function in its traceback, and would be freed by a collection only.
            del watched, error

    def _check_all(self) -> None:
        """Check all watched work; schedule the next round while any is left."""
        loop = asyncio.get_running_loop()
        for watched in self._watched:
            watched.check(loop.time())
        self._round = loop.call_later(ROUND_S, self._check_all) if self._watched else None


@dataclass(eq=False)
class _Watched:
    """The task that does some work, and when and why to cancel it."""

    task: asyncio.Task[object]
    ends_at: float
    error: Exception
    hung_up: HungUp | None
    cancelled_before: int
    is_cancelled: bool = False
    listener: asyncio.Task[None] | None = None

    def check(self, now: float) -> None:
        """Cancel the work if its time is over; else begin to listen to its client."""
        if now >= self.ends_at:
            self.cancel()
        elif self.hung_up is not None and self.listener is None:
            self.listener = asyncio.create_task(self.listen(self.hung_up))

    def was_cancelled_here(self) -> bool:
        """Whether only this module has cancelled the task.

        `asyncio.timeout` counts in the same way, but it starts a timer for each request and cannot end when a client
        hangs up. A server that stops, or an outer deadline, may cancel the same task: then the counts differ, and the
        CancelledError must travel on.
        """
        return self.is_cancelled and self.task.uncancel() <= self.cancelled_before

    def cancel(self) -> None:
        """Cancel the work, once: `was_cancelled_here` expects one cancellation from here."""
        if not self.is_cancelled:
            self.is_cancelled = True
            self.task.cancel()

    async def listen(self, hung_up: HungUp) -> None:
        """Cancel the work when its client hangs up."""
        await hung_up()
        self.error = ClientGone()
        self.cancel()
