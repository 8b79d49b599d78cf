"""Pools of processes that work on what clients send and receive, one pool to read and one to write.

Each process does one piece of work at a time. A caller that finds none free waits for a moment and is then refused, and
so a slow picture never holds up the event loop, nor all requests behind it. The callers' clients take turns. A process
is killed when its caller is cancelled, because the time is over or the client has left; another one takes its place.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from typing import ParamSpec, TypeVar

from ..errors import DeadlineExceeded, MemoryExceeded, ProcessesBusy, ProcessLost
from .fair_semaphore import FairSemaphore, NoPlace
from .forked_process import ForkedProcess, ForkServer

P = ParamSpec("P")
T = TypeVar("T")

# Work in place has at most these bytes of a form or JSON, bytes and cost of pictures, and values of numbers. The worst
# takes some milliseconds. A JPEG of 360×360 takes 1.6 to 2.3 ms, which is less than a process costs on two cores.
LIGHT_BYTES = 16_384
LIGHT_PICTURE_BYTES = 65_536
LIGHT_PICTURE_COST = 131_072
LIGHT_VALUES = 65_536

WAIT_S = 0.15  # a large request is answered or refused within a second, also beside attacks
ALONE_WAIT_S = 2.0  # a client that only waits for its own requests waits longer, and is not refused needlessly
WORK_S = 10.0
_WAITING_PER_PROCESS = 128  # callers that may wait: 128 photos of 20 kB, a millisecond each, are read within WAIT_S


class Processes:
    """The processes of one service, which are made when it starts, or else when they are first needed."""

    def __init__(self, count: int, max_bytes: int, modules: Sequence[str]) -> None:
        """Make the pools, without any process.

        Args:
            count: processes of each pool.
            max_bytes: memory that one process may use.
            modules: the modules whose functions are called. They are imported once, and do not import torch.
        """
        self._server = ForkServer(max_bytes, modules)
        self.reading = Pool(self._server, count, "read bodies")
        self.writing = Pool(self._server, count, "write answers")

    def start(self) -> None:
        """Make all processes now, so that the first request does not wait for them."""
        self.reading.fill()
        self.writing.fill()

    def close(self) -> None:
        """End all processes."""
        self.reading.close()
        self.writing.close()
        self._server.close()


class Pool:
    """The processes for one kind of work."""

    def __init__(self, server: ForkServer, count: int, task: str) -> None:
        self._server = server
        self._count = count
        self._task = task
        self._idle: list[ForkedProcess] = []
        self._free = FairSemaphore(count, count * _WAITING_PER_PROCESS)
        self._threads = ThreadPoolExecutor(count, thread_name_prefix="process")  # each waits for a process

    async def run(self, client: str, function: Callable[P, T], *arguments: P.args, **_: P.kwargs) -> T:
        """The result of a function of the modules, called in a process for a client. Its errors are raised here.

        Raises:
            ProcessesBusy: no process became free in time.
            DeadlineExceeded: the work took too long, and was ended.
            MemoryExceeded: the work needed too much memory.
            ProcessLost: the process ended before its work did, or could not be made.
        """
        async with self._turn(client):
            process = self._take()
            call = self._threads.submit(process.call, function, arguments)
            try:
                async with asyncio.timeout(WORK_S):
                    result, error = await asyncio.wrap_future(call)
            except BaseException as reason:
                process.end()
                call.add_done_callback(lambda _: process.close())
                if isinstance(reason, TimeoutError):
                    raise DeadlineExceeded(WORK_S, "send fewer or smaller images") from None
                raise
            self._give_back(process)
        if isinstance(error, MemoryError):
            raise MemoryExceeded(self._server.max_bytes)
        if error is not None:
            raise error
        return result  # type: ignore[no-any-return]  # what the function has returned

    def fill(self) -> None:
        """Make the processes that are missing."""
        while len(self._idle) < self._count:
            self._idle.append(ForkedProcess(self._server))

    def close(self) -> None:
        """Forget the processes that do nothing. The others end with the server that has forked them."""
        while self._idle:
            self._idle.pop().close()
        self._threads.shutdown(wait=False)

    @asynccontextmanager
    async def _turn(self, client: str) -> AsyncIterator[None]:
        """Wait until a process is free, but not for long."""
        try:
            async with self._free.place(client, WAIT_S, ALONE_WAIT_S):
                yield
        except NoPlace:
            raise ProcessesBusy(self._task, self._count) from None

    def _take(self) -> ForkedProcess:
        """A process that does nothing."""
        while self._idle:
            process = self._idle.pop()
            if process.is_alive():
                return process
            process.close()
        try:
            return ForkedProcess(self._server)
        except OSError as error:  # no memory or no descriptor is left
            raise ProcessLost from error

    def _give_back(self, process: ForkedProcess) -> None:
        if process.is_spent:
            process.close()
        else:
            self._idle.append(process)
