"""Requests are cut where their heads and bodies end, and each byte around them is counted."""

import asyncio
import math
from typing import Any

import pytest

from service.errors import BadRequest, HeadTooLarge
from service.listening.framing import FAIR_CHUNK, SMALL_CHUNKS, Framing

from .raw import HOST, statuses
from .test_lone_connection import BOUNDS, GET, Waiting, answer, connected, heard, say, until

pytestmark = pytest.mark.anyio

CHUNKED = b"POST / HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: chunked\r\n\r\n"
LENGTH = b"POST / HTTP/1.1\r\n" + HOST + b"Content-Length: %d\r\n\r\n"
ROOM = BOUNDS.head_bytes - len(b"GET / HTTP/1.1\r\n" + HOST + b"X: \r\n\r\n")  # bytes for one more header's value


def filled(size: int) -> bytes:
    """A whole head with some bytes more than the limit, or less."""
    return b"GET / HTTP/1.1\r\n" + HOST + b"X: " + b"a" * (ROOM + size) + b"\r\n\r\n"


class Bodies:
    """An app that reads each body to its end; it keeps the bodies, and counts how often it was woken."""

    def __init__(self) -> None:
        self.bodies: list[bytes] = []
        self.woken = 0

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        body, is_more = b"", True
        while is_more and (message := await receive())["type"] != "http.disconnect":
            body, is_more = body + message["body"], message["more_body"]
            self.woken += 1
        self.bodies.append(body)
        await answer(scope, receive, send)


def in_chunks(content: bytes, size: int, extension: bytes = b"") -> bytes:
    """A body in chunks of one size."""
    parts = [content[at : at + size] for at in range(0, len(content), size)]
    return b"".join(b"%x%b\r\n%b\r\n" % (len(part), extension, part) for part in parts) + b"0\r\n\r\n"


HEADS_TOO_LARGE = {
    "a whole head with one byte too many": (filled(1), 431),
    "an endless header in one read": (b"GET / HTTP/1.1\r\n" + HOST + b"X: " + b"a" * 100_000, 431),
    "an endless header's name": (b"GET / HTTP/1.1\r\n" + HOST + b"a" * 100_000, 431),
    "spaces in front of a value": (b"GET / HTTP/1.1\r\n" + HOST + b"X:" + b" " * 100_000 + b"y\r\n\r\n", 431),
    "line ends in front of a request": (b"\r\n" * 50_000, 431),
    "an endless address in one read": (b"GET /" + b"a" * 100_000, 414),
    "an endless whole address": (b"GET http://" + b"a" * 100_000, 414),
    "an endless method": (b"G" * 100_000, 400),
}


@pytest.mark.parametrize("name", HEADS_TOO_LARGE)
@pytest.mark.parametrize("reads", [1, 2, 3])
async def test_each_byte_of_a_head_is_counted(name: str, reads: int) -> None:
    """The service waits for no more, in whichever parts the bytes arrive."""
    sent, status = HEADS_TOO_LARGE[name]
    async with connected(answer) as (connection, client):
        for part in range(reads):
            connection.data_received(sent[part * len(sent) // reads : (part + 1) * len(sent) // reads])
        answers = await heard(client, 2)

    assert statuses(answers) == [status]


@pytest.mark.parametrize("first", [GET, LENGTH % 4 + b"body", CHUNKED + b"0\r\n\r\n"], ids=["GET", "length", "chunks"])
async def test_endless_head_behind_a_request_is_refused_too(first: bytes) -> None:
    """The request in front gets its answer, which is the last one."""
    async with connected(answer) as (connection, client):
        connection.data_received(first + b"GET / HTTP/1.1\r\nX: " + b"a" * 10_000)
        answers = await heard(client, 2)

    assert statuses(answers) == [200]


@pytest.mark.parametrize("reads", [1, 2, 50])
async def test_head_may_have_all_its_bytes(reads: int) -> None:
    """Once more behind a request, and behind a body in chunks with blank lines."""
    app = Bodies()
    body = b"a\r\n\r\nb\r\n\r"
    sent = filled(0) * 2 + CHUNKED + in_chunks(body, 20) + filled(0)
    async with connected(app) as (connection, client):
        for part in range(reads):
            connection.data_received(sent[part * len(sent) // reads : (part + 1) * len(sent) // reads])
        answers = await heard(client, 4)

    assert statuses(answers) == [200] * 4
    assert app.bodies == [b"", b"", body, b""]


@pytest.mark.parametrize("step", range(1, 9))
async def test_requests_are_the_same_in_reads_of_any_size(step: int) -> None:
    """Ends that two reads share are found."""
    app = Bodies()
    sent = b"\r\n" + GET + CHUNKED + in_chunks(b"\r\n\r\n0\r\n\r\n", 5) + LENGTH % 3 + b"\r\n\r" + GET
    async with connected(app) as (connection, client):
        for at in range(0, len(sent), step):
            connection.data_received(sent[at : at + step])
        answers = await heard(client, 4)

    assert statuses(answers) == [200] * 4
    assert app.bodies == [b"", b"\r\n\r\n0\r\n\r\n", b"\r\n\r", b""]


async def test_million_chunks_of_one_byte_are_refused_at_the_first_thousands() -> None:
    """Each chunk costs the event loop a microsecond."""
    async with connected(Bodies()) as (_, client):
        await say(client, CHUNKED)
        sending = asyncio.create_task(say(client, b"1\r\na\r\n" * 1_000_000))
        answers = await heard(client, 1)
        sending.cancel()

    assert statuses(answers) == [400]
    assert b"send larger chunks" in answers


async def test_pipelined_requests_share_the_small_chunks() -> None:
    """Or one read could bring ten times as many."""
    few = SMALL_CHUNKS // 2 + 1
    app = Waiting()
    async with connected(app) as (connection, client):
        connection.data_received((CHUNKED + in_chunks(b"a" * few, 1)) * 2)
        app.go_on.set()
        answers = await heard(client, 2)

    assert statuses(answers) == [200]


async def test_small_chunks_are_forgiven_when_a_request_is_answered() -> None:
    """A connection may live for long."""
    few = SMALL_CHUNKS // 2 + 1
    async with connected(Bodies()) as (connection, client):
        for _ in range(4):
            connection.data_received(CHUNKED + in_chunks(b"a" * few, 1))
            assert statuses(await heard(client, 1)) == [200]


@pytest.mark.parametrize("chunk", [FAIR_CHUNK, 100_000])
async def test_chunks_of_a_fair_size_are_never_too_many(chunk: int) -> None:
    """A body of some megabytes passes."""
    framing = Framing(4096)
    framing.begin_body(math.inf)
    for _ in range(2 * SMALL_CHUNKS):
        framing.count_body(chunk)

    assert framing.body_bytes == 2 * SMALL_CHUNKS * chunk


async def test_app_is_woken_once_for_the_chunks_of_a_read() -> None:
    """Not a thousand times."""
    app = Bodies()
    async with connected(app) as (connection, client):
        connection.data_received(CHUNKED + in_chunks(b"a" * 1000, 1))
        await heard(client, 1)

    assert app.bodies == [b"a" * 1000]
    assert app.woken == 1


@pytest.mark.parametrize(
    "framed",
    [
        in_chunks(b"a" * 100, 1, extension=b";" + b"x" * 100),
        b"1;" + b"x" * 10_000 + b"\r\na\r\n0\r\n\r\n",
        b"1\r\na\r\n" + b"0" * 10_000 + b"\r\n\r\n",
        b"1\r\na\r\n0\r\n" + b"X: y\r\n" * 2_000 + b"\r\n",
        b"1\r\na\r\n0\r\nX: " + b"y" * 10_000 + b"\r\n\r\n",
    ],
    ids=["many extensions", "a long extension", "a long size", "many trailers", "a long trailer"],
)
async def test_bytes_around_chunks_are_bounded(framed: bytes) -> None:
    """Even if one read brings the whole request, and another one behind it."""
    async with connected(Waiting()) as (connection, client):
        connection.data_received(CHUNKED + framed + GET)
        answers = await heard(client, 1)

    assert statuses(answers) == [431]


def test_cut_ends_with_a_head() -> None:
    """The rest of a read is cut by its own rules."""
    framing = Framing(1000)
    head, body = b"POST / HTTP/1.1\r\n\r\n", b"\r\n\r\nbody"
    data = head + body + GET[:10]
    pieces = [framing.cut(data, 0)]
    framing.begin_body(len(body))
    pieces.append(framing.cut(data, len(head)))
    framing.begin_head()
    pieces.append(framing.cut(data, len(head + body)))

    assert pieces == [head, body, GET[:10]]


def test_longer_head_is_cut_behind_its_limit() -> None:
    """The parser does not get more of it."""
    framing = Framing(1000)

    assert len(framing.cut(bytes(100_000), 0)) == 1001
    with pytest.raises(HeadTooLarge, match="1,000 bytes"):
        framing.check()


async def test_waiting_bodies_are_few(monkeypatch: pytest.MonkeyPatch) -> None:
    """Their bytes are in no budget; reading stops, and all are answered later."""
    length = 200_000
    app = Waiting()
    async with connected(app) as (connection, client):
        sending = asyncio.create_task(say(client, GET + (LENGTH % length + bytes(length)) * 8))
        await until(lambda: connection.pipeline and connection.flow.read_paused)
        await asyncio.wait([sending], timeout=0.2)
        held = sum(len(cycle.body) for cycle, _ in connection.pipeline)
        app.go_on.set()
        answers = await heard(client, 9)
        await sending

    assert held <= 65_536 + 256_000
    assert statuses(answers) == [200] * 9


def test_too_many_small_chunks_name_a_remedy() -> None:
    """A client that writes each number by itself has to collect them."""
    framing = Framing(1000)
    framing.begin_body(math.inf)
    for _ in range(SMALL_CHUNKS):
        framing.count_body(1)
    with pytest.raises(BadRequest, match="send larger chunks, or a Content-Length"):
        framing.count_body(1)
