"""Pools of processes that work on what clients send and receive, one pool to read and one to write.

Each process does one piece of work at a time. A caller that finds none free waits for a moment and is then refused, and
so a slow picture never holds up the event loop, nor all requests behind it. The callers' clients take turns. A process
is killed when its caller is cancelled, because the time is over or the client has left; another one takes its place.
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, suppress
from typing import Any, ParamSpec, TypeVar

from ..errors import DeadlineExceeded, MemoryExceeded, ProcessesBusy, ProcessLost
from . import messages
from .fair_semaphore import FairSemaphore, NoPlace

P = ParamSpec("P")
T = TypeVar("T")

# Work in place has at most these bytes of a body, and values of pixels or numbers. The worst takes some milliseconds.
LIGHT_BYTES = 16_384
LIGHT_VALUES = 65_536

WAIT_S = 0.25  # a large request is answered or refused within a second, also beside attacks
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
        self._server = _ForkServer(max_bytes, modules)
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

    def __init__(self, server: _ForkServer, count: int, task: str) -> None:
        self._server = server
        self._count = count
        self._task = task
        self._idle: list[_Process] = []
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
            self._idle.append(_Process(self._server.fork()))

    def close(self) -> None:
        """Forget the processes that do nothing. The others end with the server that has forked them."""
        while self._idle:
            self._idle.pop().close()
        self._threads.shutdown(wait=False)

    @asynccontextmanager
    async def _turn(self, client: str) -> AsyncIterator[None]:
        """Wait until a process is free, but not for long."""
        try:
            async with self._free.place(client, WAIT_S):
                yield
        except NoPlace:
            raise ProcessesBusy(self._task, self._count) from None

    def _take(self) -> _Process:
        """A process that does nothing."""
        while self._idle:
            process = self._idle.pop()
            if process.is_alive():
                return process
            process.close()
        try:
            return _Process(self._server.fork())
        except OSError as error:  # no memory or no descriptor is left
            raise ProcessLost from error

    def _give_back(self, process: _Process) -> None:
        if process.is_spent:
            process.close()
        else:
            self._idle.append(process)


class _Process:
    """A process, and the connection to it."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._id: int | None = None  # known when the process has begun
        self.is_spent = False

    def call(self, function: Callable[..., Any], arguments: Sequence[Any]) -> tuple[Any, Exception | None]:
        """The result of a function in the process, and the error that it raises there. It waits, and so needs a thread.

        Raises:
            ProcessLost: the process has ended.
        """
        try:
            if self._id is None:
                (self._id,) = messages.receive_result(self._connection)
            messages.send(self._connection, function, *arguments)
            result, error, self.is_spent = messages.receive_result(self._connection)
        except (EOFError, OSError) as lost:
            raise ProcessLost from lost
        return result, error

    def is_alive(self) -> bool:
        """Tell whether an idle process can take work: it has not closed the connection."""
        try:
            return bool(self._connection.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT))
        except BlockingIOError:
            return True
        except OSError:
            return False

    def end(self) -> None:
        """End the process amid its work; a `call` in another thread then raises ProcessLost at once."""
        with suppress(OSError):
            self._connection.shutdown(socket.SHUT_RDWR)  # without an id it has no work, and ends by itself
        if self._id is not None:
            with suppress(ProcessLookupError):
                os.kill(self._id, signal.SIGKILL)

    def close(self) -> None:
        """Close the connection, after which an idle process ends. No `call` may be under way."""
        self._connection.close()


class _ForkServer:
    """The process that forks the others: see `fork_server.py`."""

    def __init__(self, max_bytes: int, modules: Sequence[str]) -> None:
        self.max_bytes = max_bytes
        self._modules = modules
        self._process: subprocess.Popen[bytes] | None = None
        self._requests: socket.socket | None = None

    def fork(self) -> socket.socket:
        """The connection to a new process.

        Raises:
            OSError: there are no descriptors or no memory left.
        """
        if self._process is None or self._process.poll() is not None:
            self._start()
        assert self._requests  # noqa: S101  # made with the process
        ours, theirs = socket.socketpair()
        try:
            with theirs:
                socket.send_fds(self._requests, [b"\0"], [theirs.fileno()])
        except OSError:
            ours.close()
            raise
        return ours

    def close(self) -> None:
        """End the server and all that it has forked."""
        if self._requests:
            self._requests.close()
        if self._process:
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
        self._process = self._requests = None

    def _start(self) -> None:
        self.close()
        # A process that reads hostile files gets no keys. It finds the modules where this process has found them.
        environment = {name: value for name, value in os.environ.items() if not name.upper().startswith("LATENTD_")}
        environment["PYTHONPATH"] = os.pathsep.join(path or os.getcwd() for path in sys.path)
        environment["OPENBLAS_NUM_THREADS"] = "1"  # NumPy's threads would not survive a fork
        self._requests, theirs = socket.socketpair()
        self._requests.setblocking(False)  # a server that hangs would hold up the event loop
        command = [sys.executable, "-P", "-m", f"{__package__}.fork_server", str(self.max_bytes), *self._modules]
        with theirs:
            self._process = subprocess.Popen(  # noqa: S603  # our own module, by Python itself
                command, stdin=theirs.fileno(), stdout=subprocess.DEVNULL, env=environment, start_new_session=True
            )
