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
import resource
import socket
import time
from collections.abc import Callable, Collection
from contextlib import suppress
from weakref import WeakSet

import structlog

from ..http.spare_descriptor import SpareDescriptor
from .last_clients import hold_new_clients, let_new_clients_in
from .refusal import RefusedConnection

BACKLOG = 2048
IMBALANCE = 1.25  # times as many connections as another worker has: the worker then lets the other one accept
PAUSE_S = 0.001
MAX_PAUSES = 50  # in a row; the other worker is busy then, so this one accepts all that wait
MOST_AT_ONCE = 4  # clients that are accepted in one turn of the event loop, which has other clients to answer
ERROR_PAUSE_S = 0.1  # after an error of accept that waiting may end, such as too little memory
LOG_S = 60.0  # between two lines about clients that cannot be accepted
SPARE_FILES = 64  # descriptors that connections leave free: models, keys and answers need files as well
MAX_REFUSED = 32  # refused connections that are still open
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

    def last_heartbeat(self, worker: int) -> float:
        """The time of a worker's last heartbeat; infinity for a retired worker."""
        return self._heartbeats[worker]

    def is_last(self, worker: int) -> bool:
        """Whether all other workers have retired or ended, so that the port is closed when this one closes it."""
        others = [other for other in range(len(self._connections)) if other != worker]
        return all(math.isinf(self._heartbeats[other]) or self._connections[other] == ENDED for other in others)

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
    def is_last(self) -> bool:
        """Whether the port is closed when this worker closes it."""
        return self._port.is_last(self._worker)

    @property
    def is_ahead(self) -> bool:
        """Whether this worker has clearly more connections than another one."""
        return self._port.is_ahead(self._worker)


class Acceptor:
    """Accepts connections at the port for one worker. uvicorn uses it like the result of `loop.create_server`.

    When the process has nearly as many open files as it may have, further clients are refused with an answer.
    """

    def __init__(
        self,
        port: socket.socket,
        count: ConnectionCount,
        protocol: Callable[[], asyncio.Protocol],
        refusal: Callable[[], bytes],
    ) -> None:
        self.sockets = (port,)
        self._port = port
        self._count = count
        self._protocol = protocol
        self._refusal = refusal
        self._loop = asyncio.get_running_loop()
        self._tasks: set[asyncio.Task[object]] = set()  # the loop itself holds tasks weakly
        self._refused: WeakSet[RefusedConnection] = WeakSet()
        self._pauses = 0
        self._is_closed = False
        # The system gives each new file the lowest number that is free, so that a high number means a full table.
        files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        self._most_files = math.inf if files == resource.RLIM_INFINITY else files - min(SPARE_FILES, files // 4)
        self._spare = SpareDescriptor()
        self._log_at = 0.0
        let_new_clients_in(port)
        self._listen()

    def hold_new_clients(self) -> None:
        """Called a moment before `close`: clients that have begun to connect are accepted, and no others."""
        if self._count.is_last:
            hold_new_clients(self._port)

    def close(self) -> None:
        """Accept the clients that wait, then close; when all workers have closed, the port is free."""
        if not self._is_closed:
            self._is_closed = True
            self._loop.remove_reader(self._port)
            while self._accept_one():
                pass  # the kernel resets clients that wait when the last worker closes
            self._port.close()
            self._spare.close()

    def accept_some(self) -> None:
        """Called while clients wait: accept some; a worker that is ahead leaves them to the others for a moment."""
        if self._is_closed:
            return
        for _ in range(MOST_AT_ONCE):
            if not self._count.is_ahead:
                self._pauses = 0
            elif self._pauses < MAX_PAUSES:
                self._pauses += 1
                self._pause(PAUSE_S)
                return
            if not self._accept_one():
                self._pauses = 0
                return
        if self._pauses:
            # until no client waits, also where these were the last: else this worker would never pause again
            self._loop.call_soon(self.accept_some)

    async def wait_closed(self) -> None:
        """Return at once: `close` is complete when it returns."""

    def _listen(self) -> None:
        if not self._is_closed:
            self._loop.add_reader(self._port, self.accept_some)

    def _accept_one(self) -> bool:
        """Whether more clients may be accepted at once: a client waited, and was not refused."""
        try:
            connection, _ = self._port.accept()
        except (BlockingIOError, ConnectionAbortedError):
            return False  # another worker was quicker, or the client has left
        except OSError as error:
            self._refuse_with_spare(error)
            return False
        connection.setblocking(False)
        if connection.fileno() >= self._most_files:
            self._refuse(connection)
            return False
        self._begin(connection, self._protocol)
        return True

    def _begin(self, connection: socket.socket, protocol: Callable[[], asyncio.Protocol]) -> None:
        def accepted(task: asyncio.Task[object]) -> None:
            self._tasks.discard(task)
            self._count.accepting(-1)
            if not task.cancelled() and (error := task.exception()):
                log.debug("connection lost at once", reason=str(error))

        task = self._loop.create_task(self._loop.connect_accepted_socket(protocol, connection))
        self._count.accepting(+1)
        self._tasks.add(task)
        task.add_done_callback(accepted)

    def _refuse(self, connection: socket.socket) -> None:
        """Answer a client that has no room, and close; if many of them do not leave, at once."""
        self._log_refusals("too many open files")
        answer = self._refusal()
        if len(self._refused) < MAX_REFUSED:
            refused = RefusedConnection(answer)
            self._refused.add(refused)
            self._begin(connection, lambda: refused)
            return
        _answer_at_once(connection, answer)

    def _refuse_with_spare(self, error: OSError) -> None:
        """Refuse a client for whom no descriptor is left, with the spare one; after other errors, pause."""
        self._log_refusals(error.strerror or str(error))
        if error.errno in (errno.EMFILE, errno.ENFILE):
            with suppress(OSError), self._spare.free():  # another file may take its place
                _answer_at_once(self._port.accept()[0], self._refusal())
                return
        self._pause(ERROR_PAUSE_S)

    def _log_refusals(self, reason: str) -> None:
        """Log, once a minute, why clients are refused."""
        if self._loop.time() >= self._log_at:
            self._log_at = self._loop.time() + LOG_S
            log.error("connections refused", reason=reason)

    def _pause(self, seconds: float) -> None:
        self._loop.remove_reader(self._port)
        self._loop.call_later(seconds, self._listen)


def _answer_at_once(connection: socket.socket, answer: bytes) -> None:
    """Answer a client without waiting for it, and close."""
    with connection:
        connection.setblocking(False)
        with suppress(OSError):
            connection.recv(65_536)  # bytes that are not read would make the kernel reset the answer
        with suppress(OSError):
            connection.send(answer)
