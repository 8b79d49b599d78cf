"""A process that works for the service, and the server that forks such processes, both as the service sees them."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

from ..errors import ProcessLost
from . import messages


class ForkedProcess:
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

    @property
    def has_begun(self) -> bool:
        """Whether the server has forked the process, and it has told its id."""
        return self._id is not None

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


class ForkServer:
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
