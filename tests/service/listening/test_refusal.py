"""A client that sends a large body reads the whole refusal, though the service has not read the body. Over sockets."""

import asyncio
import json
import socket
from collections.abc import Iterator
from http.client import HTTPResponse

import pytest

from service.listening.connection import MAX_THROWN_AWAY
from service.listening.minimum_rate import WINDOW_S

from ...process import Process
from ...serving import PATIENT, serving
from .raw import HOST, ON_BOTH_LOOPS, connected, reset, statuses
from .test_framing import LENGTH
from .test_lone_connection import BOUNDS, GET, answer, heard, say, until
from .test_lone_connection import connected as lone

BODY = bytes(2 * 2**20)
KEY = "a-key-of-the-tests-with-enough-characters"
KEYED = b"Authorization: Bearer " + KEY.encode() + b"\r\n"


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Process]:
    """A service with a key, which takes only small bodies."""
    flags = (*PATIENT, "--max-body-bytes=1000000")
    with serving(tmp_path_factory.mktemp("refusing"), *flags, LATENTD_API_KEYS=KEY) as it:
        yield it


PICTURE = b"Content-Type: image/png\r\n"
SIZE = b"Content-Length: %d\r\n" % len(BODY)
REFUSALS = {
    "no key": (b"1.1", PICTURE + SIZE, 401),
    "no key, HTTP/1.0": (b"1.0", PICTURE + SIZE, 401),  # as nginx asks by default
    "too large": (b"1.1", KEYED + PICTURE + SIZE, 413),
    "too large, HTTP/1.0": (b"1.0", KEYED + PICTURE + SIZE, 413),
    "another media type": (b"1.1", KEYED + b"Content-Type: text/csv\r\n" + SIZE, 415),
    "another media type, HTTP/1.0": (b"1.0", KEYED + b"Content-Type: text/csv\r\n" + SIZE, 415),
    "an unknown expectation": (b"1.1", KEYED + PICTURE + SIZE + b"Expect: the best\r\n", 417),
    "a large head": (b"1.1", KEYED + PICTURE + SIZE + b"X: " + b"a" * 20_000 + b"\r\n", 431),
    "coded chunks": (b"1.1", KEYED + PICTURE + b"Transfer-Encoding: gzip, chunked\r\n", 501),
    "chunks in HTTP/1.0": (b"1.0", KEYED + PICTURE + b"Transfer-Encoding: chunked\r\n", 400),
}


@pytest.mark.parametrize("name", REFUSALS)
def test_refusal_is_whole(service: Process, name: str) -> None:
    """Fifty of fifty clients get it that send all before they read, and ask that the connection be closed."""
    version, headers, status = REFUSALS[name]
    head = b"POST /v1/encode HTTP/%b\r\nConnection: close\r\n%b%b\r\n" % (version, HOST, headers)
    found = []
    for _ in range(50):
        with connected(service.url) as client:
            client.sendall(head)
            client.sendall(BODY)
            response = HTTPResponse(client)
            response.begin()
            found.append((response.status, json.loads(response.read())["status"]))

    assert found == [(status, status)] * 50
    assert service.is_ready()


REFUSED = (LENGTH % len(BODY)).replace(b"\r\n", b"\r\nConnection: close\r\n", 1)
in_process = pytest.mark.anyio


@in_process
@ON_BOTH_LOOPS
async def test_service_ends_its_part_first() -> None:
    """The client learns that the answer is complete; when it closes too, the connection ends at once."""
    async with lone(answer) as (connection, client):
        await say(client, REFUSED)
        answers = await heard(client, 2)
        await say(client, bytes(1_000_000))
        is_open = connection.parser is not None
        client.shutdown(socket.SHUT_WR)
        await until(lambda: connection.parser is None)

    assert statuses(answers) == [200]
    assert is_open


@in_process
@ON_BOTH_LOOPS
@pytest.mark.parametrize("after_s", [WINDOW_S, BOUNDS.body_s])
async def test_client_that_does_not_close_is_closed(after_s: float) -> None:
    """A silent client after a window; a client that still sends when the time of a body is over."""
    async with lone(answer) as (connection, client):
        await say(client, REFUSED)
        await heard(client, 2)
        now = connection.loop.time()
        connection.close_if_overdue(now)
        connection.close_if_overdue(now + after_s - 1)
        is_open = connection.parser is not None
        connection.close_if_overdue(now + after_s + 1)
        await until(lambda: connection.parser is None)

    assert is_open


@in_process
@ON_BOTH_LOOPS
@pytest.mark.parametrize("head", [REFUSED, LENGTH % 2**40], ids=["closing", "kept alive"])
async def test_what_is_thrown_away_is_bounded(head: bytes) -> None:
    """Behind a complete answer a client may send no more than a large body; no byte of it is kept."""
    async with lone(answer) as (connection, client):
        await say(client, head)
        await heard(client, 1)
        sending = asyncio.create_task(say(client, bytes(3 * MAX_THROWN_AWAY)))
        await until(lambda: connection.parser is None)
        await asyncio.wait([sending])

    assert isinstance(sending.exception(), ConnectionError)
    assert not connection.cycle.body


@in_process
@ON_BOTH_LOOPS
async def test_pipelined_requests_behind_the_last_one_are_thrown_away() -> None:
    """A client that asks for the end of the connection gets no answer behind it."""
    last = GET.replace(b"\r\n", b"\r\nConnection: close\r\n", 1)
    async with lone(answer) as (_, client):
        await say(client, GET + last + GET * 3)
        answers = await heard(client, 5)

    assert statuses(answers) == [200, 200]


@in_process
@ON_BOTH_LOOPS
async def test_reset_ends_the_wait() -> None:
    """A client that has gone sends nothing more."""
    async with lone(answer) as (connection, client):
        await say(client, REFUSED)
        await heard(client, 2)
        reset(client)
        await until(lambda: connection.parser is None)


@in_process
async def test_broken_body_behind_its_answer_gets_no_second_answer() -> None:
    """A proxy would take it for the answer to the next request."""
    async with lone(answer) as (_, client):
        await say(client, b"POST / HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: chunked\r\n\r\n")
        await heard(client, 1)
        await say(client, b"zz\r\n")
        answers = await heard(client, 1)

    assert answers == b""
