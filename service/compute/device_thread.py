"""The one thread that a device is talked to from. It can be seen to hang, or to be dead, and can then be given up."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from functools import partial
from queue import SimpleQueue
from typing import Any, TypeVar

T = TypeVar("T")

Task = Callable[[], None]


class DeviceThread:
    """Does one thing after another, from its first task on until it is told to end.

    It is a daemon, so that one that hangs does not keep the process from ending. Any other must have ended before:
    torch ends the process with an abort where Python stops a thread that is in it.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._tasks: SimpleQueue[Task | None] = SimpleQueue()
        self._waiting: set[asyncio.Future[Any]] = set()
        self._thread: threading.Thread | None = None
        self._sign_of_life = time.monotonic()
        self._patience = 1.0

    async def do(self, function: Callable[[], T], *, patience: float = 1.0) -> T:
        """What the function gives there, or raises; it may take `patience` times as long as other work."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[T] = loop.create_future()
        if not self._waiting:
            self._sign_of_life = time.monotonic()
        self._waiting.add(future)
        self._tasks.put(lambda: self._do(function, future, loop, patience))
        self._start()
        try:
            return await future
        finally:
            self._waiting.discard(future)

    def has_hung_for(self, seconds: float) -> bool:
        """Whether somebody waits, and for so long nothing was begun or ended; or the thread is dead.

        Work that was given more patience may take so many times as long.
        """
        if not self._waiting or self._thread is None:
            return False
        if not self._thread.is_alive():
            return True
        return time.monotonic() - self._sign_of_life >= seconds * self._patience

    def give_up(self, error: Exception) -> None:
        """Answer all waiting calls with the error; what the thread may still compute is dropped."""
        self._tasks.put(None)
        for future in self._waiting:
            if not future.done():
                future.set_exception(error)

    def end(self, within_s: float | None = None) -> None:
        """Wait until it has done what it was given, and has ended; a later task begins another.

        One that hangs is left behind after `within_s` seconds, if there is such a limit.
        """
        thread, self._thread = self._thread, None
        if thread is None:
            return
        self._tasks.put(None)
        self._tasks = SimpleQueue()
        thread.join(within_s)

    def _start(self) -> None:
        if self._thread is None:
            self._thread = threading.Thread(target=_run, args=(self._tasks,), name=self._name, daemon=True)
            self._thread.start()

    def _do(
        self,
        function: Callable[[], T],
        future: asyncio.Future[T],
        loop: asyncio.AbstractEventLoop,
        patience: float,
    ) -> None:
        if future.done():
            return  # nobody waits for it any more
        self._patience, self._sign_of_life = patience, time.monotonic()
        try:
            outcome: Task = partial(_give, future, function())
        except Exception as error:
            outcome = partial(_fail, future, error)
        self._patience, self._sign_of_life = 1.0, time.monotonic()
        if not loop.is_closed():
            loop.call_soon_threadsafe(outcome)


def _run(tasks: SimpleQueue[Task | None]) -> None:
    while (task := tasks.get()) is not None:
        task()


def _give(future: asyncio.Future[T], result: T) -> None:
    if not future.done():
        future.set_result(result)


def _fail(future: asyncio.Future[T], error: Exception) -> None:
    if not future.done():
        future.set_exception(error)
