"""One port for several workers: whoever has the fewest connections takes the next.

The kernel wakes all of them, and who comes first would take a whole burst; since connections are kept for long, the
others would go on with nothing to do.
"""

from __future__ import annotations

import asyncio
import mmap
import socket
from collections.abc import Callable, Sized

import structlog

BACKLOG = 2048
PAUSE_S = 0.001
PAUSES = 10  # in which a connection is left to a worker that has fewer; it may be busy, or have been killed
REST_S = 1.0  # after an error, as of a table of files that is full
NOBODY = 2**32 - 1  # in place of a number of connections

log = structlog.get_logger()


class SharedPort:
    """A bound socket, and how many connections each worker has, where all of them see it; made before they fork."""

    def __init__(self, port: socket.socket, workers: int) -> None:
        port.setblocking(False)
        self.socket = port
        self._connections = memoryview(mmap.mmap(-1, 4 * workers)).cast("I")

    def tell(self, worker: int, connections: int) -> None:
        """So many has a worker; one that has ended has `NOBODY`, and is left nothing."""
        self._connections[worker] = connections

    def is_ahead(self, worker: int) -> bool:
        """Whether it has more than another has."""
        return self._connections[worker] > min(self._connections)


class Acceptor:
    """A worker's ear at the port: takes one connection at a time, in turn with the other workers.

    For uvicorn it is what `loop.create_server` gives. `connections` are those that the worker has.
    """

    def __init__(
        self, port: SharedPort, worker: int, connections: Sized, protocol: Callable[[], asyncio.Protocol]
    ) -> None:
        self.sockets = (port.socket,)
        self._port = port
        self._worker = worker
        self._connections = connections
        self._protocol = protocol
        self._loop = asyncio.get_running_loop()
        self._beginning: set[asyncio.Task[object]] = set()
        self._pauses = 0
        self._is_closed = False
        port.tell(worker, 0)
        port.socket.listen(BACKLOG)
        self._listen()

    def close(self) -> None:
        """Take no more."""
        self._loop.remove_reader(self._port.socket)
        self._is_closed = True

    async def wait_closed(self) -> None:
        """Nothing is left to wait for."""

    def _listen(self) -> None:
        if not self._is_closed:
            self._loop.add_reader(self._port.socket, self._take)

    def _take(self) -> None:
        """Take a connection, or leave it for a moment to who has fewer."""
        self._tell()
        if self._port.is_ahead(self._worker) and self._pauses < PAUSES:
            self._pauses += 1
            self._pause(PAUSE_S)
            return
        self._pauses = 0
        try:
            connection, _ = self._port.socket.accept()
        except (BlockingIOError, ConnectionAbortedError):
            return  # somebody else was quicker, or the caller has gone
        except OSError as error:
            log.error("connection not taken", reason=str(error))
            self._pause(REST_S)
            return
        connection.setblocking(False)
        beginning = self._loop.create_task(self._loop.connect_accepted_socket(self._protocol, connection))
        self._beginning.add(beginning)
        beginning.add_done_callback(self._beginning.discard)
        self._tell()

    def _tell(self) -> None:
        self._port.tell(self._worker, len(self._connections) + len(self._beginning))

    def _pause(self, seconds: float) -> None:
        self._loop.remove_reader(self._port.socket)
        self._loop.call_later(seconds, self._listen)
