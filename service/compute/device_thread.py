"""The one thread that talks to a device. A thread that hangs or has died is detected, and can then be abandoned."""

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
    """Runs one task after another, from its first task until `end`.

    The thread is a daemon, so that a thread that hangs does not keep the process from ending. Every other thread must
    be ended before: if Python stops a thread inside of torch at its exit, torch aborts the process.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._tasks: SimpleQueue[Task | None] = SimpleQueue()
        self._waiting: set[asyncio.Future[Any]] = set()
        self._thread: threading.Thread | None = None
        self._sign_of_life = time.monotonic()
        self._patience = 1.0

    async def do(self, function: Callable[[], T], *, patience: float = 1.0) -> T:
        """Call the function in the thread; it may take `patience` times as long as other work."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[T] = loop.create_future()
        if not self._waiting:
            self._sign_of_life = time.monotonic()
        self._waiting.add(future)
        self._tasks.put(lambda: self._do(function, future, loop, patience))
        if self._thread is None:
            self._thread = threading.Thread(target=_run, args=(self._tasks,), name=self._name, daemon=True)
            self._thread.start()
        try:
            return await future
        finally:
            self._waiting.discard(future)

    def has_hung_for(self, seconds: float) -> bool:
        """Whether a caller waits while the thread is dead, or has made no progress for that time.

        The time is multiplied by the patience of the current task.
        """
        if not self._waiting or self._thread is None:
            return False
        if not self._thread.is_alive():
            return True
        return time.monotonic() - self._sign_of_life >= seconds * self._patience

    def excuse(self) -> None:
        """Count the time without progress from now on: the thread could not make any before."""
        self._sign_of_life = time.monotonic()

    def give_up(self, error: Exception) -> None:
        """Raise the error in all waiting calls. A result that the thread may still compute is dropped."""
        self._tasks.put(None)
        for future in self._waiting:
            if not future.done():
                future.set_exception(error)

    def end(self, within_s: float | None = None) -> None:
        """Wait until the thread has done its queued tasks and has ended. A later task starts another thread.

        If `within_s` is given, a thread that takes longer is abandoned.
        """
        thread, self._thread = self._thread, None
        if thread is None:
            return
        self._tasks.put(None)
        self._tasks = SimpleQueue()
        thread.join(within_s)

    def _do(
        self,
        function: Callable[[], T],
        future: asyncio.Future[T],
        loop: asyncio.AbstractEventLoop,
        patience: float,
    ) -> None:
        if future.done():
            return  # the caller has left
        self._patience, self._sign_of_life = patience, time.monotonic()
        try:
            settle: Task = partial(future.set_result, function())
        except Exception as error:
            settle = partial(future.set_exception, error)
        self._patience, self._sign_of_life = 1.0, time.monotonic()
        if not loop.is_closed():
            # The caller may leave, or the thread be given up, before the loop comes to this.
            loop.call_soon_threadsafe(lambda: None if future.done() else settle())


def _run(tasks: SimpleQueue[Task | None]) -> None:
    while (task := tasks.get()) is not None:
        task()
