"""One connection over a real socket, with an app and a time that the test chooses."""

import asyncio
import gc
import re
import socket
import weakref
from collections.abc import AsyncIterator, Awaitable, Callable, Hashable
from contextlib import asynccontextmanager
from typing import Any

import pytest
import uvicorn
from starlette.types import Scope
from uvicorn.server import ServerState

from service.http.client import address_of
from service.http.fair_start import FairStart
from service.listening.bounds import Bounds
from service.listening.connection import MAX_PIPELINED, READ_AHEAD, Connection
from service.listening.unwanted_bodies import UnwantedBodies
from service.telemetry.metrics import Metrics

from .raw import HOST, ON_BOTH_LOOPS, reset, statuses

pytestmark = [pytest.mark.anyio, ON_BOTH_LOOPS]

BOUNDS = Bounds(head_bytes=4096, head_s=10, body_s=20, idle_s=1000)
GET = b"GET / HTTP/1.1\r\n" + HOST + b"\r\n"

LONG = 2**24  # bytes: more than the kernel buffers of an answer

App = Callable[[Any, Any, Any], Awaitable[None]]


async def answer(scope: Any, receive: Any, send: Any) -> None:
    """An app that answers at once."""
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"0")]})
    await send({"type": "http.response.body"})


async def answer_at_length(scope: Any, receive: Any, send: Any) -> None:
    """An app whose answer does not fit into the kernel's buffers."""
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % LONG)]})
    await send({"type": "http.response.body", "body": bytes(LONG)})


class Waiting:
    """An app that answers when `go_on` is set; it counts the requests begun, and the clients that left."""

    def __init__(self) -> None:
        self.go_on = asyncio.Event()
        self.begun, self.left = 0, 0

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        self.begun += 1
        going = asyncio.create_task(self.go_on.wait())
        leaving = asyncio.create_task(self._until_left(receive))
        await asyncio.wait((going, leaving), return_when=asyncio.FIRST_COMPLETED)
        going.cancel()
        leaving.cancel()
        await answer(scope, receive, send)

    async def _until_left(self, receive: Any) -> None:
        while (await receive())["type"] != "http.disconnect":
            pass
        self.left += 1


@asynccontextmanager
async def connected(
    app: App, on_change: Callable[[], None] = lambda: None, fair_start: FairStart | None = None
) -> AsyncIterator[tuple[Connection, socket.socket]]:
    """Both ends of a connection."""
    config = uvicorn.Config(app, log_config=None, access_log=False, ws="none", timeout_keep_alive=1000)
    connection = Connection(
        BOUNDS, Metrics(), UnwantedBodies(), fair_start or FairStart(address_of), on_change,
        config=config, server_state=ServerState(), app_state={},
    )  # fmt: skip
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: connection, "127.0.0.1", 0)
    client = socket.socket()
    client.setblocking(False)
    await loop.sock_connect(client, server.sockets[0].getsockname())
    await until(lambda: connection.flow)
    try:
        yield connection, client
    finally:
        server.close()
        client.close()
        connection.transport.abort()
        await until(lambda: connection.parser is None)


async def say(client: socket.socket, content: bytes) -> None:
    """Send some bytes."""
    await asyncio.get_running_loop().sock_sendall(client, content)


async def heard(client: socket.socket, answers: int) -> bytes:
    """The bytes received up to a number of answers, or up to the end."""
    said, loop = b"", asyncio.get_running_loop()
    while len(statuses(said)) < answers and (part := await loop.sock_recv(client, 65_536)):
        said += part
    return said


async def take(client: socket.socket, size: int) -> int:
    """Take a number of bytes, or all until the end; return how many there were."""
    taken, loop = 0, asyncio.get_running_loop()
    while taken < size and (part := await loop.sock_recv(client, size - taken)):
        taken += len(part)
    return taken


async def until(holds: Callable[[], object]) -> None:
    """Wait until a condition holds, for at most ten seconds."""
    async with asyncio.timeout(10):
        while not holds():
            await asyncio.sleep(0.001)


async def test_connection_says_when_it_is_made_and_when_it_is_lost() -> None:
    """The worker then publishes its number of connections, which decides which worker accepts the next one."""
    changes: list[None] = []
    async with connected(answer, lambda: changes.append(None)) as (connection, client):
        made = len(changes), len(connection.connections)
        reset(client)
        await until(lambda: len(changes) == 2)
        lost = len(connection.connections)

    assert (made, lost) == ((1, 1), 0)


async def test_few_requests_wait_behind_one_another() -> None:
    """A client may send more: the accepted requests are answered, and the last answer closes the connection."""
    app = Waiting()
    async with connected(app) as (connection, client):
        sending = asyncio.create_task(say(client, GET * 100_000))
        await until(lambda: connection.pipeline)
        held = len(connection.pipeline)
        app.go_on.set()
        answers = await heard(client, MAX_PIPELINED + 1)
        sending.cancel()

    assert held == MAX_PIPELINED
    assert statuses(answers) == [200] * (MAX_PIPELINED + 1)
    assert len(re.findall(b"connection: close", answers)) == 1


async def test_nothing_is_read_while_some_requests_wait() -> None:
    """More bodies would take memory that is not counted yet; the next request is read and answered later."""
    app = Waiting()
    async with connected(app) as (connection, client):
        await say(client, GET * (1 + READ_AHEAD))
        await until(lambda: connection.pipeline)
        await say(client, GET)
        await asyncio.wait([asyncio.create_task(until(lambda: len(connection.pipeline) > READ_AHEAD))], timeout=0.1)
        held = len(connection.pipeline)
        app.go_on.set()
        answers = await heard(client, 2 + READ_AHEAD)

    assert held == READ_AHEAD
    assert statuses(answers) == [200] * (2 + READ_AHEAD)


async def test_app_learns_that_a_client_with_waiting_requests_has_left() -> None:
    """The request at work is told; the waiting requests are not begun."""
    app = Waiting()
    async with connected(app) as (connection, client):
        await say(client, GET * 3)
        await until(lambda: len(connection.pipeline) == 2)
        reset(client)
        await until(lambda: app.left)

    assert (app.begun, app.left) == (1, 1)


async def test_second_request_learns_that_the_client_has_left() -> None:
    """As soon as it is at work itself."""
    app = Waiting()
    async with connected(app) as (connection, client):
        await say(client, GET * 3)
        await until(lambda: len(connection.pipeline) == 2)
        app.go_on.set()
        app.go_on = asyncio.Event()
        await heard(client, 1)
        await until(lambda: app.begun == 2)
        reset(client)
        await until(lambda: app.left)

    assert (app.begun, app.left) == (2, 1)


class Held(FairStart):
    """Requests that start when the test says so."""

    def __init__(self) -> None:
        super().__init__(address_of)
        self.asked: dict[Hashable, Callable[[], object]] = {}

    def ask(self, connection: Hashable, scope: Scope, start: Callable[[], object]) -> None:
        """Keep a request."""
        self.asked[connection] = start

    def forget(self, connection: Hashable) -> None:
        """Drop the request of a connection that has been lost."""
        self.asked.pop(connection, None)


async def test_request_that_waits_for_its_start_is_answered_to_a_client_that_has_half_closed() -> None:
    """The client may wait for its answer."""
    held, app = Held(), Waiting()
    app.go_on.set()
    async with connected(app, fair_start=held) as (connection, client):
        await say(client, GET)
        client.shutdown(socket.SHUT_WR)
        await until(lambda: held.asked)
        assert not app.begun
        held.asked[connection]()
        said = b""
        while part := await asyncio.get_running_loop().sock_recv(client, 65_536):
            said += part

        assert statuses(said) == [200]


async def test_request_of_a_client_that_is_reset_before_its_start_is_forgotten() -> None:
    """Else requests of lost connections would fill the memory."""
    held, app = Held(), Waiting()
    async with connected(app, fair_start=held) as (_, client):
        await say(client, GET)
        await until(lambda: held.asked)
        reset(client)
        await until(lambda: not held.asked)

        assert not app.begun


async def test_no_timer_keeps_a_connection_that_was_reset() -> None:
    """The timer would keep the connection in memory as long as an idle one."""
    async with connected(answer) as (connection, client):
        await say(client, GET)
        await heard(client, 1)
        await until(lambda: connection.timeout_keep_alive_task)
        reset(client)
        await until(lambda: connection.parser is None)

        assert connection.timeout_keep_alive_task is None


async def test_half_a_head_behind_an_answer_has_the_time_of_a_head() -> None:
    """The longer time of an idle connection does not apply."""
    async with connected(answer) as (connection, client):
        await say(client, GET + GET[:20])
        answers = await heard(client, 1)
        connection.close_if_overdue(connection.loop.time() + BOUNDS.head_s)
        answers += await heard(client, 2)

    assert statuses(answers) == [200, 408]


async def test_client_has_time_to_take_each_answer() -> None:
    """A client that takes one answer after the other is not cut off, though each check finds one in the buffer."""
    async with connected(answer_at_length) as (connection, client):
        await say(client, GET * 2)
        await until(lambda: connection.flow.write_paused)
        connection.close_if_overdue(1.0)
        await take(client, LONG)
        await until(lambda: connection.flow.write_paused)
        connection.close_if_overdue(1.0 + BOUNDS.body_s)
        taken = await take(client, LONG)

    assert taken == LONG


async def test_answer_that_is_not_taken_in_its_time_is_broken_off() -> None:
    """The rest of the answer is dropped from memory."""
    async with connected(answer_at_length) as (connection, client):
        await say(client, GET)
        await until(lambda: connection.flow.write_paused)
        connection.close_if_overdue(1.0)
        connection.close_if_overdue(1.0 + BOUNDS.body_s)

        assert await take(client, LONG) < LONG


async def test_body_does_not_count_as_part_of_the_next_head() -> None:
    """A head arrives in two parts; the second part also brings a long body and the beginning of the next head."""
    length = 5 * BOUNDS.head_bytes
    post = b"POST / HTTP/1.1\r\n" + HOST + b"Content-Length: %d\r\n\r\n" % length
    async with connected(answer) as (connection, client):
        await say(client, post[:20])
        await until(lambda: connection.scope)
        await say(client, post[20:] + bytes(length) + GET[:20])
        await heard(client, 1)
        await say(client, GET[20:])
        answers = await heard(client, 1)

    assert statuses(answers) == [200]


async def test_body_may_be_longer_than_a_head() -> None:
    """Even if the app has answered and does not read the body."""
    async with connected(answer) as (_, client):
        await say(client, b"POST / HTTP/1.1\r\n" + HOST + b"Content-Length: %d\r\n\r\n" % 2**20)
        await say(client, bytes(2**20) + GET)
        answers = await heard(client, 2)

    assert statuses(answers) == [200, 200]


@pytest.mark.parametrize("endless", [b"0\r\nX-Trailer: ", b"5;extension="], ids=["trailer", "chunk extension"])
async def test_endless_trailer_or_extension_is_refused_while_it_arrives(endless: bytes) -> None:
    """The limit of the head holds behind the head as well."""
    app = Waiting()
    async with connected(app) as (_, client):
        await say(client, b"POST / HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: chunked\r\n\r\n" + endless)
        sending = asyncio.create_task(say(client, b"a" * 2**24))
        answers = await heard(client, 1)
        sending.cancel()

    assert statuses(answers) == [431]


async def test_connection_that_is_lost_is_freed_at_once() -> None:
    """A thousand of them would be a long collection, which stops the event loop."""
    made: list[weakref.ref[Connection]] = []

    def connection() -> Connection:
        config = uvicorn.Config(answer, log_config=None, access_log=False, ws="none", timeout_keep_alive=1000)
        new = Connection(
            BOUNDS, Metrics(), UnwantedBodies(), FairStart(address_of), lambda: None,
            config=config, server_state=ServerState(), app_state={},
        )  # fmt: skip
        made.append(weakref.ref(new))
        return new

    gc.collect()
    gc.disable()
    try:
        async with await asyncio.get_running_loop().create_server(connection, "127.0.0.1", 0) as server:
            reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
            writer.write(GET)
            assert statuses(await reader.readuntil(b"\r\n\r\n")) == [200]
            writer.close()
            async with asyncio.timeout(10):
                while made[0]() is not None:
                    await asyncio.sleep(0.01)
    finally:
        gc.enable()
