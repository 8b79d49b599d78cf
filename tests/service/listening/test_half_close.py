"""A client that has ended its own part gets its answers; a client that has left costs no more work."""

import asyncio
import socket

import pytest

from service.listening.connection import Connection
from service.listening.lingering_transport import BEGINNING

from .raw import HOST, ON_BOTH_LOOPS, reset, statuses
from .test_framing import CHUNKED, LENGTH, Bodies
from .test_lone_connection import GET, Waiting, answer, connected, heard, say, until

pytestmark = [pytest.mark.anyio, ON_BOTH_LOOPS]

POST = LENGTH % 4 + b"body"


async def rest(client: socket.socket) -> bytes:
    """All bytes until the service closes."""
    said, loop = b"", asyncio.get_running_loop()
    while part := await loop.sock_recv(client, 65_536):
        said += part
    return said


async def until_left(app: Waiting, connection: Connection) -> None:
    """Check the connection, as the server does, until the app has learnt that its client has left."""
    async with asyncio.timeout(10):
        while not app.left:
            for each in connection.connections:
                assert isinstance(each, Connection)
                each.close_if_overdue(0.0)
            await asyncio.sleep(0.001)


@pytest.mark.parametrize("sent", [GET, POST, CHUNKED + b"4\r\nbody\r\n0\r\n\r\n"], ids=["GET", "length", "chunks"])
@pytest.mark.parametrize("is_quick", [True, False])
async def test_half_closed_client_gets_its_answer(sent: bytes, is_quick: bool) -> None:
    """The answer is whole, whether it was ready at once or later; then the connection is closed."""
    app = Waiting()
    async with connected(app) as (connection, client):
        await say(client, sent)
        await until(lambda: app.begun)
        app.go_on.set() if is_quick else None
        client.shutdown(socket.SHUT_WR)
        await until(lambda: connection.flow.read_paused or connection.parser is None)
        app.go_on.set()
        answers = await rest(client)

    assert answers.startswith(b"HTTP/1.1 200 OK\r\n")
    assert statuses(answers) == [200]
    assert app.left == 0


async def test_half_closed_client_gets_the_answers_of_all_its_requests() -> None:
    """The last request is not complete, so it gets none."""
    app = Waiting()
    async with connected(app) as (connection, client):
        await say(client, GET + POST + GET + POST[:-1])
        client.shutdown(socket.SHUT_WR)
        await until(lambda: connection.flow.read_paused)
        app.go_on.set()
        answers = await rest(client)

    assert statuses(answers) == [200, 200, 200]
    assert app.begun == 3


@pytest.mark.parametrize(
    "sent", [b"", GET[:10], POST[:-1], CHUNKED + b"4\r\nbo"], ids=["none", "head", "body", "chunk"]
)
async def test_connection_without_a_whole_request_is_closed(sent: bytes) -> None:
    """The rest of the request will never come."""
    async with connected(Bodies()) as (connection, client):
        await say(client, sent)
        await until(lambda: connection.scope or not sent)
        client.shutdown(socket.SHUT_WR)

        assert await rest(client) == b""


async def test_client_that_has_left_is_found_by_the_beginning_of_its_answer() -> None:
    """Its kernel resets the connection, and the app is told."""
    app = Waiting()
    async with connected(app) as (connection, client):
        await say(client, GET)
        await until(lambda: app.begun)
        client.close()
        await until(lambda: connection.flow.read_paused)
        await until_left(app, connection)

    assert (app.begun, app.left) == (1, 1)


async def test_requests_behind_that_of_a_client_that_has_left_are_not_begun() -> None:
    """Though they have arrived as a whole."""
    app = Waiting()
    async with connected(app) as (connection, client):
        await say(client, GET * 3)
        await until(lambda: len(connection.pipeline) == 2)
        client.close()
        await until(lambda: connection.flow.read_paused)
        await until_left(app, connection)

    assert (app.begun, app.left) == (1, 1)


async def test_reset_is_noticed_while_nothing_is_read() -> None:
    """Reading has stopped since many requests wait."""
    app = Waiting()
    async with connected(app) as (connection, client):
        await say(client, GET * 20)
        await until(lambda: connection.flow.read_paused)
        reset(client)
        await until_left(app, connection)

    assert (app.begun, app.left) == (1, 1)


async def test_half_closed_client_sees_the_beginning_of_its_answer() -> None:
    """The beginning is the same for each status, and is not sent twice."""
    app = Waiting()
    async with connected(app) as (connection, client):
        await say(client, b"GET / HTTP/1.0\r\n" + HOST + b"Expect: 100-continue\r\n\r\n")
        await until(lambda: app.begun)
        client.shutdown(socket.SHUT_WR)
        await until(lambda: connection.flow.read_paused)
        begun = await asyncio.get_running_loop().sock_recv(client, 100)
        app.go_on.set()
        answers = begun + await rest(client)

    assert begun == BEGINNING
    assert answers.startswith(b"HTTP/1.1 200 OK\r\n")


async def test_client_that_ends_its_part_behind_an_answer_is_closed() -> None:
    """As always: it has nothing more to ask."""
    async with connected(answer) as (_, client):
        await say(client, GET)
        await heard(client, 1)
        client.shutdown(socket.SHUT_WR)

        assert await rest(client) == b""
