"""A process that works for the service, and the server that forks such processes, both as the service sees them."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

from ..errors import ProcessLost
from . import messages

HUNG_S = 8.0  # a server that makes no process for so long hangs; its imports take a second


class ForkedProcess:
    """A process, and the connection to it."""

    def __init__(self, server: ForkServer) -> None:
        """Ask the server for a process.

        Raises:
            OSError: there are no descriptors or no memory left.
        """
        self._server = server
        self._connection = server.fork()
        self._id: int | None = None  # known when the process has begun
        self.is_spent = False

    def call(self, function: Callable[..., Any], arguments: Sequence[Any]) -> tuple[Any, Exception | None]:
        """The result of a function in the process, and the error that it raises there. It waits, and so needs a thread.

        Raises:
            ProcessLost: the process has ended.
        """
        try:
            if self._id is None:
                self._server.awaits_process()
                (self._id,) = messages.receive_result(self._connection)
                self._server.has_made_process()
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
        """End the process amid its work; a `call` in another thread then raises ProcessLost at once.

        A server that has not made the process, nor any other for a while, ends too.
        """
        with suppress(OSError):
            self._connection.shutdown(socket.SHUT_RDWR)  # without an id it has no work, and ends by itself
        if self._id is not None:
            with suppress(ProcessLookupError):
                os.kill(self._id, signal.SIGKILL)
        else:
            self._server.end_if_it_hangs()

    def close(self) -> None:
        """Close the connection, after which an idle process ends. No `call` may be under way."""
        self._connection.close()


class ForkServer:
    """The process that forks the others: see `fork_server.py`."""

    def __init__(self, max_bytes: int, modules: Sequence[str]) -> None:
        self.max_bytes = max_bytes
        self._modules = modules
        self._process: subprocess.Popen[bytes] | None = None
        self._requests: socket.socket | None = None
        self._awaited_since: float | None = None  # since when a process is awaited, and none has begun

    def fork(self) -> socket.socket:
        """The connection to a new process.

        Raises:
            OSError: there are no descriptors or no memory left.
        """
        if self._process is None or self._process.poll() is not None:
            self._start()
        try:
            return self._ask()
        except ConnectionError:  # it ends at this moment
            self._start()
            return self._ask()

    def awaits_process(self) -> None:
        """Called when the first message of a process is awaited."""
        self._awaited_since = self._awaited_since or time.monotonic()

    def has_made_process(self) -> None:
        """Called when the first message of a process has arrived."""
        self._awaited_since = None

    def end_if_it_hangs(self) -> None:
        """End the server if it has made no process for too long; the next process comes from another server."""
        if self._awaited_since is not None and time.monotonic() - self._awaited_since > HUNG_S:
            self.close()

    def _ask(self) -> socket.socket:
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
        self._process = self._requests = self._awaited_since = None

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
