"""One port for several workers, or for one: the one with the fewest connections takes the next.

The kernel wakes all of them, and who comes first would take a whole burst; since connections are kept for long, the
others would go on with nothing to do. A single one is no different, but that it is never ahead of another: where it
stops to listen, it takes all who are connected already, whom the event loop's own server would reset.
"""

from __future__ import annotations

import asyncio
import errno
import math
import mmap
import socket
import time
from collections.abc import Callable
from typing import Any

import structlog

BACKLOG = 2048
SLACK = 1.25
PAUSE_S = 0.001
PAUSES = 50  # in which connections are left to a worker that has fewer; if it is busy for longer, they are all taken
REST_S = 1.0  # after an error, as of a table of files that is full
NOBODY = 2**32 - 1  # in place of a number of connections

log = structlog.get_logger()


class CannotListen(Exception):
    """The service cannot listen at the address that the settings name."""

    def __init__(self, host: str, port: int, error: OSError) -> None:
        remedy = _REMEDIES.get(error.errno or 0, "choose another LATENTD_HOST or LATENTD_PORT")
        super().__init__(f"{url_of(host, port)} cannot be listened at: {error.strerror or error}; {remedy}")


_REMEDIES = {
    errno.EADDRINUSE: "stop the process that listens there, or choose another LATENTD_PORT",
    errno.EACCES: "choose a LATENTD_PORT of 1024 or more",
    errno.EADDRNOTAVAIL: "set LATENTD_HOST to an address of this machine, such as 127.0.0.1 or 0.0.0.0",
    socket.EAI_NONAME: "set LATENTD_HOST to a name or an address of this machine, such as localhost or 127.0.0.1",
}


def url_of(host: str, port: int) -> str:
    """The address as a URL, in which an IPv6 address stands in brackets."""
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def bound(host: str, port: int) -> socket.socket:
    """A socket that has the port. Of a name's addresses the IPv4 one is taken, if it has one.

    Raises:
        CannotListen: the port is taken, or the host is not an address or a name of this machine.
    """
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        family, _, _, _, address = min(found, key=lambda each: each[0] != socket.AF_INET)
    except OSError as error:
        raise CannotListen(host, port, error) from error
    listening = socket.socket(family)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(address)
    except OSError as error:
        listening.close()
        raise CannotListen(host, port, error) from error
    return listening


class SharedPort:
    """A bound socket; and where all can see it, each worker's number of connections, and when it was last heard of.

    It is made before they fork.

    Raises:
        CannotListen: another process listens there since it was bound.
    """

    def __init__(self, port: socket.socket, workers: int) -> None:
        port.setblocking(False)
        try:
            port.listen(BACKLOG)
        except OSError as error:
            host, number = port.getsockname()[:2]
            raise CannotListen(host, number, error) from error
        self.socket = port
        self._connections = memoryview(mmap.mmap(-1, 4 * workers)).cast("I")
        self._heard = memoryview(mmap.mmap(-1, 8 * workers)).cast("d")

    def tell(self, worker: int, connections: int) -> None:
        """A worker has that many connections now; `NOBODY` stands for a worker that has ended."""
        self._connections[worker] = connections

    def sign_on(self, worker: int) -> None:
        """It is there, and its event loop turns."""
        self._heard[worker] = time.monotonic()

    def sign_off(self, worker: int) -> None:
        """It is not to be heard of any more."""
        self._heard[worker] = math.inf

    def silence_s(self, worker: int) -> float:
        """How long it has not been heard of."""
        return time.monotonic() - self._heard[worker]

    def is_ahead(self, worker: int) -> bool:
        """Whether it has clearly more than another has; where there are few, one more is clear."""
        return self._connections[worker] > SLACK * min(self._connections)


class Connections(set[Any]):
    """Those of a worker; the others are told whenever one comes or goes. Some may be on their way in."""

    def __init__(self, port: SharedPort, worker: int) -> None:
        super().__init__()
        self._port = port
        self._worker = worker
        self._coming = 0
        self.expect(0)

    def add(self, connection: Any) -> None:
        """One has come."""
        super().add(connection)
        self.expect(0)

    def discard(self, connection: Any) -> None:
        """One has gone."""
        super().discard(connection)
        self.expect(0)

    def expect(self, more: int) -> None:
        """That many more, or fewer, are on their way."""
        self._coming += more
        self._port.tell(self._worker, len(self) + self._coming)

    @property
    def are_ahead(self) -> bool:
        """Whether there are clearly more of them than another worker has."""
        return self._port.is_ahead(self._worker)


class Acceptor:
    """A worker's ear at the port; for uvicorn it is what `loop.create_server` gives."""

    def __init__(self, port: socket.socket, connections: Connections, protocol: Callable[[], asyncio.Protocol]) -> None:
        self.sockets = (port,)
        self._port = port
        self._connections = connections
        self._protocol = protocol
        self._loop = asyncio.get_running_loop()
        self._tasks: set[asyncio.Task[object]] = set()  # the loop itself holds them weakly
        self._pauses = 0
        self._is_closed = False
        self._listen()

    def close(self) -> None:
        """Take who waits, and then no more; when all workers have closed it, nobody is heard any more."""
        if not self._is_closed:
            self._is_closed = True
            self._loop.remove_reader(self._port)
            while self._take_one():
                pass  # else they would be reset
            self._port.close()

    async def wait_closed(self) -> None:
        """Nothing is left to wait for."""

    def _listen(self) -> None:
        if not self._is_closed:
            self._loop.add_reader(self._port, self._take)

    def _take(self) -> None:
        """Take all connections that wait, but leave some, for a moment, to workers that have fewer."""
        while self._pauses == PAUSES or not self._connections.are_ahead:
            if not self._take_one():
                self._pauses = 0
                return
        self._pauses += 1
        self._pause(PAUSE_S)

    def _take_one(self) -> bool:
        """Whether there was one, and the next can be tried at once."""
        try:
            connection, _ = self._port.accept()
        except (BlockingIOError, ConnectionAbortedError):
            return False  # nobody waits any more
        except OSError as error:
            log.error("connection not taken", reason=str(error))
            self._pause(REST_S)
            return False
        connection.setblocking(False)
        task = self._loop.create_task(self._loop.connect_accepted_socket(self._protocol, connection))
        self._connections.expect(+1)
        self._tasks.add(task)
        task.add_done_callback(self._connected)
        return True

    def _connected(self, task: asyncio.Task[object]) -> None:
        self._tasks.discard(task)
        self._connections.expect(-1)
        if not task.cancelled() and (error := task.exception()):
            log.debug("connection lost at once", reason=str(error))

    def _pause(self, seconds: float) -> None:
        """Listen again in a while."""
        self._loop.remove_reader(self._port)
        self._loop.call_later(seconds, self._listen)
