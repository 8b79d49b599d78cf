"""The end of a worker's listening."""

import asyncio
import socket
from contextlib import ExitStack

import pytest

from service.listening.shared_port import Acceptor, ConnectionCount, SharedPort, bind

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
    acceptor = Acceptor(port.socket, ConnectionCount(port, 0, set()), Greeter)
    with ExitStack() as stack:
        clients = [stack.enter_context(socket.create_connection(address, timeout=20)) for _ in range(64)]
        acceptor.close()
        said = await asyncio.gather(*(asyncio.to_thread(client.recv, 16) for client in clients))

    assert said == [b"hello"] * 64
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(address, timeout=20)
