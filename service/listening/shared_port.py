"""One port for one or several workers: the worker with the fewest connections accepts the next one.

The kernel wakes all workers when a client connects, and the first of them would accept a whole burst. Since connections
stay open for long, the other workers would then have nothing to do.

A single worker uses the same acceptor: when it stops listening, it accepts the clients that wait in the kernel's queue,
which the event loop's own server would reset.
"""

from __future__ import annotations

import asyncio
import errno
import math
import mmap
import socket
import time
from collections.abc import Callable, Collection

import structlog

BACKLOG = 2048
IMBALANCE = 1.25  # times as many connections as another worker has: the worker then lets the other one accept
PAUSE_S = 0.001
MAX_PAUSES = 50  # in a row; the other worker is busy then, so this one accepts all that wait
ERROR_PAUSE_S = 1.0  # after an error of accept, such as a full table of open files
ENDED = 2**32 - 1  # in place of the number of connections: the worker has ended, and is never the one with the fewest

log = structlog.get_logger()


class CannotListen(Exception):
    """The service cannot listen at the address that the settings name."""

    def __init__(self, host: str, port: int, error: OSError) -> None:
        remedy = _REMEDIES.get(error.errno or 0, "choose another LATENTD_HOST or LATENTD_PORT")
        super().__init__(f"The address {url_of(host, port)} cannot be used: {error.strerror or error}; {remedy}")


_REMEDIES = {
    errno.EADDRINUSE: "stop the process that listens there, or choose another LATENTD_PORT",
    errno.EACCES: "choose a LATENTD_PORT of 1024 or more",
    errno.EADDRNOTAVAIL: "set LATENTD_HOST to an address of this machine, such as 127.0.0.1 or 0.0.0.0",
    socket.EAI_NONAME: "set LATENTD_HOST to a name or an address of this machine, such as localhost or 127.0.0.1",
}


def url_of(host: str, port: int) -> str:
    """The address as a URL, in which an IPv6 address stands in brackets."""
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def bind(host: str, port: int) -> socket.socket:
    """A socket bound to the port; it does not listen yet. If a host has several addresses, an IPv4 address is taken.

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
    """A listening socket, and in shared memory each worker's number of connections and the time of its last heartbeat.

    Made before the workers are forked.

    Raises:
        CannotListen: another process has begun to listen there since the socket was bound.
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
        self._heartbeats = memoryview(mmap.mmap(-1, 8 * workers)).cast("d")

    def set_connections(self, worker: int, connections: int) -> None:
        """Publish a worker's number of connections, or `ENDED`."""
        self._connections[worker] = connections

    def heartbeat(self, worker: int) -> None:
        """Note that a worker's event loop still runs."""
        self._heartbeats[worker] = time.monotonic()

    def retire(self, worker: int) -> None:
        """Expect no more heartbeats of a worker."""
        self._heartbeats[worker] = math.inf

    def seconds_since_heartbeat(self, worker: int) -> float:
        """The age of a worker's last heartbeat; minus infinity for a retired worker."""
        return time.monotonic() - self._heartbeats[worker]

    def is_ahead(self, worker: int) -> bool:
        """Whether a worker has clearly more connections than another one."""
        return self._connections[worker] > IMBALANCE * min(self._connections)


class ConnectionCount:
    """The number of connections of one worker, published to the other workers.

    Connections that are being accepted count as well: they are not in uvicorn's set yet, and without
    them a burst of clients would not be seen.
    """

    def __init__(self, port: SharedPort, worker: int, connections: Collection[object]) -> None:
        self._port = port
        self._worker = worker
        self._connections = connections
        self._accepting = 0
        self.publish()

    def publish(self) -> None:
        """Called when a connection has been made or lost."""
        self._port.set_connections(self._worker, len(self._connections) + self._accepting)

    def accepting(self, change: int) -> None:
        """Called when connections begin (+) or cease (-) to be accepted."""
        self._accepting += change
        self.publish()

    @property
    def is_ahead(self) -> bool:
        """Whether this worker has clearly more connections than another one."""
        return self._port.is_ahead(self._worker)


class Acceptor:
    """Accepts connections at the port for one worker. uvicorn uses it like the result of `loop.create_server`."""

    def __init__(self, port: socket.socket, count: ConnectionCount, protocol: Callable[[], asyncio.Protocol]) -> None:
        self.sockets = (port,)
        self._port = port
        self._count = count
        self._protocol = protocol
        self._loop = asyncio.get_running_loop()
        self._tasks: set[asyncio.Task[object]] = set()  # the loop itself holds tasks weakly
        self._pauses = 0
        self._is_closed = False
        self._listen()

    def close(self) -> None:
        """Accept the clients that wait, then close; when all workers have closed, the port is free."""
        if not self._is_closed:
            self._is_closed = True
            self._loop.remove_reader(self._port)
            while self._accept_one():
                pass  # the kernel resets clients that wait when the last worker closes
            self._port.close()

    def accept_all(self) -> None:
        """Called when clients wait: accept them all; a worker that is ahead leaves them to the others for a moment."""
        while self._pauses == MAX_PAUSES or not self._count.is_ahead:
            if not self._accept_one():
                self._pauses = 0
                return
        self._pauses += 1
        self._pause(PAUSE_S)

    async def wait_closed(self) -> None:
        """Return at once: `close` is complete when it returns."""

    def _listen(self) -> None:
        if not self._is_closed:
            self._loop.add_reader(self._port, self.accept_all)

    def _accept_one(self) -> bool:
        """Whether a client waited and was accepted."""
        try:
            connection, _ = self._port.accept()
        except (BlockingIOError, ConnectionAbortedError):
            return False  # another worker was quicker, or the client has left
        except OSError as error:
            log.error("connection not accepted", reason=str(error))
            self._pause(ERROR_PAUSE_S)
            return False
        connection.setblocking(False)

        def accepted(task: asyncio.Task[object]) -> None:
            self._tasks.discard(task)
            self._count.accepting(-1)
            if not task.cancelled() and (error := task.exception()):
                log.debug("connection lost at once", reason=str(error))

        task = self._loop.create_task(self._loop.connect_accepted_socket(self._protocol, connection))
        self._count.accepting(+1)
        self._tasks.add(task)
        task.add_done_callback(accepted)
        return True

    def _pause(self, seconds: float) -> None:
        self._loop.remove_reader(self._port)
        self._loop.call_later(seconds, self._listen)
