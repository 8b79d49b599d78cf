"""The end of a worker's listening."""

import asyncio
import os
import resource
import socket
import sys
from contextlib import ExitStack

import pytest

from service.listening.last_clients import hold_new_clients
from service.listening.shared_port import (
    ENDED,
    MAX_PAUSES,
    MOST_AT_ONCE,
    Acceptor,
    CannotListen,
    ConnectionCount,
    SharedPort,
    bind,
)

from .kernel import can_hold_clients

pytestmark = pytest.mark.anyio


class Greeter(asyncio.Protocol):
    """Says hello, and closes."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        transport.write(b"hello")
        transport.close()


async def test_clients_that_have_connected_when_the_port_closes_are_answered() -> None:
    """The event loop has not turned since they connected, so that the kernel would reset them all."""
    port = SharedPort(bind("127.0.0.1", 0), workers=1)
    address = port.socket.getsockname()
    acceptor = Acceptor(port.socket, ConnectionCount(port, 0, set()), Greeter, bytes)
    with ExitStack() as stack:
        clients = [stack.enter_context(socket.create_connection(address, timeout=20)) for _ in range(64)]
        acceptor.close()
        said = await asyncio.gather(*(asyncio.to_thread(client.recv, 16) for client in clients))

    assert said == [b"hello"] * 64
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(address, timeout=20)


@pytest.mark.skipif(not can_hold_clients(), reason="packets cannot be filtered here")
async def test_client_that_connects_just_before_the_port_closes_waits_and_is_not_reset() -> None:
    """The kernel ignores its first packet, and it tries again; a client that has connected already is answered."""
    port = SharedPort(bind("127.0.0.1", 0), workers=1)
    address = port.socket.getsockname()
    acceptor = Acceptor(port.socket, ConnectionCount(port, 0, set()), Greeter, bytes)
    with socket.create_connection(address, timeout=20) as earlier, socket.socket() as later:
        acceptor.hold_new_clients()
        later.settimeout(0.2)
        with pytest.raises(TimeoutError):
            later.connect(address)
        acceptor.close()
        said = await asyncio.to_thread(earlier.recv, 16)

    assert said == b"hello"


@pytest.mark.skipif(sys.platform != "linux", reason="Linux alone waits for a byte of a client")
@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
async def test_client_that_has_begun_to_connect_before_the_port_closes_is_answered(host: str) -> None:
    """Only packets that open a connection are dropped: the kernel still waits for a byte of this client."""
    try:
        port = SharedPort(bind(host, 0), workers=1)
    except CannotListen:
        pytest.skip(f"{host} is not an address of this machine")
    port.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_DEFER_ACCEPT, 5)
    acceptor = Acceptor(port.socket, ConnectionCount(port, 0, set()), Greeter, bytes)
    with socket.create_connection(port.socket.getsockname()[:2], timeout=20) as client:
        acceptor.hold_new_clients()
        client.sendall(b"x")
        acceptor.close()
        said = await asyncio.to_thread(client.recv, 16)

    assert said == b"hello"


async def test_worker_that_begins_to_listen_lets_new_clients_in_again() -> None:
    """The filter belongs to the port: a worker that has closed alone must not keep clients out."""
    port = SharedPort(bind("127.0.0.1", 0), workers=1)
    hold_new_clients(port.socket)
    acceptor = Acceptor(port.socket, ConnectionCount(port, 0, set()), Greeter, bytes)
    with await asyncio.to_thread(socket.create_connection, port.socket.getsockname(), 5) as client:
        said = await asyncio.to_thread(client.recv, 16)
    acceptor.close()

    assert said == b"hello"


async def test_worker_that_closes_while_another_listens_leaves_the_port_to_it() -> None:
    """Only the last one of the workers lets new clients wait."""
    port = SharedPort(bind("127.0.0.1", 0), workers=3)
    lasts = [port.is_last(0)]
    port.set_connections(1, ENDED)
    lasts.append(port.is_last(0))
    port.retire(2)
    lasts.append(port.is_last(0))
    port.socket.close()

    assert lasts == [False, False, True]


async def test_few_clients_are_accepted_in_one_turn_of_the_event_loop() -> None:
    """Hundreds that connect at once do not hold up the clients that have connected already."""
    accepted: list[int] = []
    port = SharedPort(bind("127.0.0.1", 0), workers=1)
    count = ConnectionCount(port, 0, set())
    count.accepting = accepted.append  # type: ignore[assignment, method-assign]
    with ExitStack() as stack:
        for _ in range(100):
            stack.enter_context(socket.create_connection(port.socket.getsockname(), timeout=20))
        acceptor = Acceptor(port.socket, count, Greeter, bytes)
        acceptor.accept_some()
        at_once = len(accepted)
        acceptor.close()

    assert at_once == MOST_AT_ONCE


async def test_worker_that_has_waited_for_a_busy_one_waits_again_at_the_next_burst() -> None:
    """Also after a burst of just as many clients as it accepts in one turn: it would take all clients from then on."""
    asked = 0

    class AlwaysAhead(ConnectionCount):
        @property
        def is_ahead(self) -> bool:
            nonlocal asked
            asked += 1
            return True

    port = SharedPort(bind("127.0.0.1", 0), workers=2)
    acceptor = Acceptor(port.socket, AlwaysAhead(port, 0, set()), Greeter, bytes)
    waits = []
    for _ in range(2):
        asked = 0
        with ExitStack() as stack:
            clients = [
                stack.enter_context(socket.create_connection(port.socket.getsockname(), 20))
                for _ in range(MOST_AT_ONCE)
            ]
            for client in clients:
                assert await asyncio.to_thread(client.recv, 5) == b"hello"
        waits.append(asked)
    acceptor.close()

    assert min(waits) > MAX_PAUSES


async def test_client_for_whom_no_descriptor_is_left_is_refused_with_the_spare_one() -> None:
    """Another program in the process has taken all of them; the clients are told, and none of them is forgotten."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    port = SharedPort(bind("127.0.0.1", 0), workers=1)
    with ExitStack() as stack:
        clients = [stack.enter_context(socket.create_connection(port.socket.getsockname(), 20)) for _ in range(8)]
        said = [asyncio.create_task(asyncio.to_thread(client.recv, 16)) for client in clients]
        await asyncio.to_thread(int)  # the threads are there, and need no more files
        acceptor = Acceptor(port.socket, ConnectionCount(port, 0, set()), Greeter, lambda: b"no room")
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(map(int, os.listdir("/proc/self/fd"))), hard))
        try:
            while taken := [*map(os.dup, [0])]:
                stack.callback(os.close, *taken)
        except OSError:
            heard = await asyncio.gather(*said)
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        acceptor.close()

    assert heard == [b"no room"] * 8


async def test_worker_is_ahead_while_it_has_more_connections_than_another() -> None:
    """Connections that are being accepted count as well; a worker that has ended is not compared."""
    port = SharedPort(bind("127.0.0.1", 0), workers=2)
    connections: set[object] = set()
    first, second = ConnectionCount(port, 0, connections), ConnectionCount(port, 1, set())
    ahead = [first.is_ahead]
    first.accepting(+1)
    ahead.append(first.is_ahead)
    connections.add("a connection")
    first.accepting(-1)
    ahead.append(first.is_ahead)
    second.accepting(+1)
    ahead.append(first.is_ahead)
    second.accepting(-1)
    port.set_connections(1, ENDED)
    ahead.append(first.is_ahead)
    port.socket.close()

    assert ahead == [False, True, True, False, False]
