"""Clients cannot hold connections open in vain, and invalid requests are answered and closed. Over real sockets."""

import json
import re
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

from service.listening.connection import MAX_PIPELINED

from ...process import Process, unharmed
from ...serving import serving
from ..wire import picture
from .raw import HOST, connected, everything, reset, say, status_of_next, statuses

HEAD_S, BODY_S, IDLE_S = 0.6, 0.6, 2
POLL_S = 0.5  # between two checks of all connections
EARLY_S = 0.01  # the event loop counts in whole milliseconds
LATE_S = 3.0  # allowed for a busy machine


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Process]:
    """A service with short deadlines, which takes only small heads and bodies."""
    flags = {
        "head-timeout-s": HEAD_S, "body-timeout-s": BODY_S, "idle-timeout-s": IDLE_S, "max-head-bytes": 4096,
        "max-body-bytes": 200_000,
    }  # fmt: skip
    with serving(tmp_path_factory.mktemp("impatient"), *(f"--{name}={value}" for name, value in flags.items())) as it:
        yield it


@pytest.fixture(autouse=True)
def is_unharmed(service: Process) -> Iterator[None]:
    """After each test the service is ready, and no request is left."""
    yield
    assert unharmed(service) == []


def metrics(service: Process) -> str:
    """The text of /metrics."""
    return httpx.get(f"{service.url}/metrics").text


def refused(service: Process, status: int) -> float:
    """The number of requests that the connection itself has refused, according to the metrics."""
    name = f'latentd_requests_total{{code="{status}",model="",route="none"}}'
    return sum(map(float, re.findall(rf"(?m)^{re.escape(name)} (\S+)$", metrics(service))))


def until(holds: Callable[[], object], what: str) -> None:
    """Wait until a condition holds, for at most twenty seconds."""
    deadline = time.monotonic() + 20
    while not holds():
        assert time.monotonic() < deadline, what
        time.sleep(0.05)


GET = b"GET /v1/sample HTTP/1.1\r\n"
LONG = b"GET /openapi.json HTTP/1.1\r\n" + HOST + b"\r\n"  # 110 kB
MANY = b"GET /v1/sample?n=256&format=safetensors HTTP/1.1\r\n" + HOST + b"\r\n"
POST = b"POST /v1/encode HTTP/1.1\r\n" + HOST + b"Content-Type: image/png\r\n"

INVALID_REQUESTS = {
    "noise": (b"\x00\xff\x16\x03\x01 nonsense\r\n\r\n", 400),
    "another protocol": (b"GET /livez HTCPCP/1.0\r\n\r\n", 400),
    "HTTP/0.9": (b"GET /livez\r\n\r\n", 400),
    "HTTP/2.0": (b"GET /livez HTTP/2.0\r\n" + HOST + b"\r\n", 400),
    "no Host": (GET + b"\r\n", 400),
    "two Hosts": (GET + HOST + HOST + b"\r\n", 400),
    "length and chunks": (POST + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
    "two lengths": (POST + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\nabcdef", 400),
    "negative length": (POST + b"Content-Length: -1\r\n\r\n", 400),
    "length that is not a number": (POST + b"Content-Length: 0x10\r\n\r\n", 400),
    "chunk that is not a number": (POST + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n\r\n", 400),
    "unknown transfer encoding": (POST + b"Transfer-Encoding: gzip\r\n\r\n", 400),
    "folded header": (GET + HOST + b"X-Fold: a\r\n b\r\n\r\n", 400),
    "space in a header's name": (GET + HOST + b"Content Length: 5\r\n\r\n", 400),
    "zero byte in a header": (GET + HOST + b"X-Zero: a\x00b\r\n\r\n", 400),
    "bare line feeds in a header": (GET + HOST + b"X-Line: a\nX-Other: b\r\n\r\n", 400),
    "bytes beyond ASCII in the address": (b"GET /\xff\xfe HTTP/1.1\r\n" + HOST + b"\r\n", 400),
    "address of another protocol": (b"GET ftp://latentd/livez HTTP/1.1\r\n" + HOST + b"\r\n", 400),
    "address with a user": (b"GET http://user:secret@latentd/livez HTTP/1.1\r\n" + HOST + b"\r\n", 400),
    "address without a host": (b"GET http:///livez HTTP/1.1\r\n" + HOST + b"\r\n", 400),
    "address with a port beyond 65535": (b"GET http://latentd:65536/livez HTTP/1.1\r\n" + HOST + b"\r\n", 400),
    "* of another method": (b"GET * HTTP/1.1\r\n" + HOST + b"\r\n", 400),
    "coded chunks": (POST + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", 501),
    "codings in two headers": (POST + b"Transfer-Encoding: br\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 501),
    "chunks inside a coding": (POST + b"Transfer-Encoding: chunked, gzip\r\n\r\n0\r\n\r\n", 400),
    "chunks twice": (POST + b"Transfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n", 400),
    "chunks in two headers": (POST + 2 * b"Transfer-Encoding: chunked\r\n" + b"\r\n0\r\n\r\n", 400),
    "identity": (POST + b"Transfer-Encoding: identity\r\n\r\n", 400),
    "nearly chunked": (POST + b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n", 400),
    "chunked in quotes": (POST + b'Transfer-Encoding: "chunked"\r\n\r\n0\r\n\r\n', 400),
    "empty transfer encoding": (POST + b"Transfer-Encoding:\r\n\r\n0\r\n\r\n", 400),
    "vertical tab before chunked": (POST + b"Transfer-Encoding:\x0bchunked\r\n\r\n0\r\n\r\n", 400),
    "space before the colon": (POST + b"Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n", 400),
    "chunks and length": (POST + b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n", 400),
    "chunks in HTTP/1.0": (b"POST /v1/encode HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
    "length with a sign": (POST + b"Content-Length: +5\r\n\r\nabcde", 400),
    "list of lengths": (POST + b"Content-Length: 5, 5\r\n\r\nabcde", 400),
    "the same length twice": (POST + 2 * b"Content-Length: 5\r\n" + b"\r\nabcde", 400),
    "length with a space": (POST + b"Content-Length: 1 5\r\n\r\nabcde", 400),
    "length with an underscore": (POST + b"Content-Length: 1_5\r\n\r\nabcde", 400),
    "empty length": (POST + b"Content-Length:\r\n\r\nabcde", 400),
    "length beyond 64 bits": (POST + b"Content-Length: 18446744073709551616\r\n\r\nabcde", 400),
    "length on a folded line": (POST + b"Content-Length:\r\n 5\r\n\r\nabcde", 400),
    "length behind chunks": (POST + b"Transfer-Encoding: chunked\r\n\r\n0\r\nContent-Length: 5\r\n\r\n", 400),
    "sign in a chunk's size": (POST + b"Transfer-Encoding: chunked\r\n\r\n+1\r\na\r\n0\r\n\r\n", 400),
    "0x in a chunk's size": (POST + b"Transfer-Encoding: chunked\r\n\r\n0x1\r\na\r\n0\r\n\r\n", 400),
    "space behind a chunk's size": (POST + b"Transfer-Encoding: chunked\r\n\r\n1 \r\na\r\n0\r\n\r\n", 400),
    "chunk's size beyond 64 bits": (POST + b"Transfer-Encoding: chunked\r\n\r\n10000000000000001\r\n", 400),
    "chunk longer than its size": (POST + b"Transfer-Encoding: chunked\r\n\r\n1\r\nab\r\n0\r\n\r\n", 400),
    "line feed in an extension": (POST + b"Transfer-Encoding: chunked\r\n\r\n1;a\nb\r\na\r\n0\r\n\r\n", 400),
    "bare line feeds around chunks": (POST + b"Transfer-Encoding: chunked\r\n\r\n1\na\n0\n\n", 400),
    "unknown expectation": (POST + b"Expect: 200-ok\r\nContent-Length: 5\r\n\r\n", 417),
    "two expectations": (POST + b"Expect: 100-continue, more\r\nContent-Length: 5\r\n\r\n", 417),
    "preface of HTTP/2": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400),
    "bare carriage return": (GET + HOST + b"X: a\rb\r\n\r\n", 400),
    "bare line feeds": (b"GET /livez HTTP/1.1\nHost: latentd\n\n", 400),
    "space before the first header": (GET + b" X: y\r\n" + HOST + b"\r\n", 400),
    "zero byte in a header's name": (GET + HOST + b"X\x00: y\r\n\r\n", 400),
    "header without a name": (GET + HOST + b": y\r\n\r\n", 400),
    "header without a colon": (GET + HOST + b"X\r\n\r\n", 400),
    "small letters": (b"get /livez http/1.1\r\n" + HOST + b"\r\n", 400),
    "version with two digits": (b"GET /livez HTTP/1.10\r\n" + HOST + b"\r\n", 400),
    "long address": (b"GET /" + b"a" * 5_000 + b" HTTP/1.1\r\n" + HOST + b"\r\n", 414),
    "endless address": (b"GET /" + b"a" * 100_000, 414),
    "long header": (GET + HOST + b"X-Long: " + b"a" * 5_000 + b"\r\n\r\n", 431),
    "many headers": (GET + HOST + b"X: y\r\n" * 2_000 + b"\r\n", 431),
}


@pytest.mark.parametrize("name", INVALID_REQUESTS)
def test_invalid_request_is_answered_and_closed(service: Process, name: str) -> None:
    """The answer is a problem document, as for every other error, and it is counted."""
    sent, status = INVALID_REQUESTS[name]
    before = refused(service, status)
    answer = say(service.url, sent)
    head, _, body = answer.partition(b"\r\n\r\n")

    assert statuses(answer) == [status]
    assert b"application/problem+json" in head
    assert b"connection: close" in head
    assert json.loads(body)["status"] == status
    assert len(body) < 1024
    assert refused(service, status) == before + 1


@pytest.mark.parametrize(
    "sent",
    [
        POST + b"Transfer-Encoding: ChunkED \r\n\r\n%x\r\n%b\r\n0\r\n\r\n" % (len(picture()), picture()),
        POST + b"Transfer-Encoding:\tchunked\r\n\r\n%x;a=b\r\n%b\r\n0\r\n\r\n" % (len(picture()), picture()),
        POST + b"Content-Length: %06d \r\n\r\n%b" % (len(picture()), picture()),
        b"\r\n" + POST + b"Expect: 100-Continue\r\nContent-Length: %d\r\n\r\n%b" % (len(picture()), picture()),
    ],
    ids=["capital letters", "tab and extension", "zeros and a space", "everything at once"],
)
def test_unusual_request_is_answered(service: Process, sent: bytes) -> None:
    """RFC 9112 allows all of these. A client that has sent its body already gets no 100 Continue."""
    assert statuses(say(service.url, sent.replace(HOST, HOST + b"Connection: close\r\n"))) == [200]


def test_body_is_asked_for_when_it_is_read(service: Process) -> None:
    """The client waits for that before it sends its body."""
    with connected(service.url) as connection:
        connection.sendall(POST + b"Expect: 100-continue\r\nContent-Length: %d\r\n\r\n" % len(picture()))
        begun = connection.recv(100)
        connection.sendall(picture())

        assert begun == b"HTTP/1.1 100 Continue\r\n\r\n"
        assert status_of_next(connection) == 200


def test_old_client_is_not_asked_for_its_body(service: Process) -> None:
    """HTTP/1.0 has no 100 Continue, so the header is ignored there."""
    head = b"POST /v1/encode HTTP/1.0\r\nContent-Type: image/png\r\nExpect: 100-continue\r\n"
    with connected(service.url) as connection:
        connection.sendall(head + b"Content-Length: 100000\r\n\r\n")

        assert statuses(everything(connection)) == [408]


def test_body_that_is_refused_is_not_asked_for(service: Process) -> None:
    """The client then need not send it."""
    head = b"Connection: close\r\nExpect: 100-continue\r\nContent-Length: 100000000\r\n\r\n"
    with connected(service.url) as connection:
        connection.sendall(POST + head)

        assert statuses(everything(connection)) == [413]


def test_address_without_a_host_gets_that_reason(service: Process) -> None:
    """The address begins with http://, so the reason for other protocols would be false."""
    answer = say(service.url, INVALID_REQUESTS["address without a host"][0])

    assert b"its address names no host" in answer


@pytest.mark.parametrize("framing", ["length", "chunks"])
def test_too_large_body_is_refused_before_it_is_read(service: Process, framing: str) -> None:
    """A body with a length and a body in chunks are refused; the rest of the body is not awaited."""
    chunk = b"%x\r\n%b\r\n" % (2**20, bytes(2**20))
    head = {"length": b"Content-Length: 999999999\r\n\r\n", "chunks": b"Transfer-Encoding: chunked\r\n\r\n"}
    answer = say(service.url, POST + head[framing], *[chunk if framing == "chunks" else bytes(1000)] * 100)

    assert statuses(answer) == [413]


def test_endless_header_is_refused_while_it_arrives(service: Process) -> None:
    """The service neither waits for its end nor keeps it in memory."""
    answer = say(service.url, GET + HOST + b"X-Endless: ", *[b"a" * 10_000] * 10)

    assert statuses(answer) == [431]


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        ("http://a.localhost", "http://a.localhost"),
        ("http://a.localhost?x=1", "http://a.localhost"),
        ("HTTPS://a.localhost:8443", "http://a.localhost:8443"),
        ("http://[::1]:8000/", "http://[::1]:8000"),
    ],
)
def test_whole_address_is_taken_as_its_path(service: Process, address: str, shown: str) -> None:
    """An empty path means `/`; the host of the address replaces the Host header."""
    answer = say(service.url, f"GET {address} HTTP/1.1\r\nConnection: close\r\n".encode() + HOST + b"\r\n")

    assert statuses(answer) == [200]
    assert f">{shown}<".encode() in answer


@pytest.mark.parametrize("address", ["http://localhost/v1/sample?n=2", "https://localhost:443/v1/sample?n=2"])
def test_whole_address_keeps_its_path_and_query(service: Process, address: str) -> None:
    """The operation is found by the path."""
    answer = say(service.url, f"GET {address} HTTP/1.1\r\nConnection: close\r\n".encode() + HOST + b"\r\n")

    assert statuses(answer) == [200]
    assert b"x-model: grey@1" in answer


def test_options_of_the_whole_service_is_answered(service: Process) -> None:
    """`OPTIONS *` only asks whether the server answers (RFC 9110, section 9.3.7)."""
    assert statuses(say(service.url, b"OPTIONS * HTTP/1.1\r\nConnection: close\r\n" + HOST + b"\r\n")) == [204]


def test_old_clients_need_name_no_host(service: Process) -> None:
    """Load balancers probe with HTTP/1.0."""
    assert statuses(say(service.url, b"GET /readyz HTTP/1.0\r\n\r\n")) == [200]


def test_request_to_upgrade_is_answered_in_http_1_1(service: Process) -> None:
    """Java's client asks for HTTP/2 in this way, and sends its body at once."""
    body = picture()
    upgrade = b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n"
    answer = say(service.url, POST + upgrade + b"Content-Length: %d\r\n\r\n" % len(body) + body)

    assert statuses(answer) == [200]


def test_connect_is_refused_since_the_service_is_not_a_proxy(service: Process) -> None:
    """A tunnel would have no end."""
    assert statuses(say(service.url, b"CONNECT a.localhost:443 HTTP/1.1\r\n" + HOST + b"\r\n")) == [400]


def test_headers_behind_a_body_are_ignored(service: Process) -> None:
    """A header cannot arrive after the request has been checked; too many of them are refused."""
    chunk = b"%x\r\n%b\r\n0\r\n" % (len(picture()), picture())
    head = POST + b"Transfer-Encoding: chunked\r\nConnection: close\r\n\r\n"
    few = say(service.url, head + chunk + b"X-Request-Id: smuggled\r\n\r\n")
    many = say(service.url, head + chunk + b"X: y\r\n" * 5_000 + b"\r\n")

    assert statuses(few) == [200]
    assert b"smuggled" not in few
    assert statuses(many) == [431]


def test_requests_in_a_row_are_answered_in_their_order(service: Process) -> None:
    """A client need not wait for each answer; an invalid request behind them does not cost their answers."""
    ask = b"".join(b"GET /v1/sample?seed=%d&format=json HTTP/1.1\r\n%b\r\n" % (seed, HOST) for seed in range(5))
    answers = say(service.url, ask + b"\x00nonsense\r\n\r\n")

    assert [int(seed) for seed in re.findall(rb'"seed": ?(\d+)', answers)] == list(range(5))
    assert set(statuses(answers)[:5]) == {200}


def test_client_that_floods_a_connection_delays_no_other_client(service: Process) -> None:
    """The first requests of the client are answered, and the rest takes no memory."""
    flood = b"GET /livez HTTP/1.1\r\n" + HOST + b"\r\n"
    answers = say(service.url, *[flood * 10_000] * 10)

    assert set(statuses(answers)) == {200}
    assert len(statuses(answers)) <= 1 + MAX_PIPELINED
    assert httpx.get(f"{service.url}/v1/sample").status_code == 200


def test_body_that_breaks_off_is_an_error_of_its_own_request(service: Process) -> None:
    """The app learns that the client is no longer served."""
    answer = say(service.url, POST + b"Transfer-Encoding: chunked\r\n\r\n", b"4\r\nabcd\r\n", b"zz\r\n")

    assert statuses(answer) == [400]


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"", None),
        (b"\r\n", None),
        (b"GET /v1/sa", 408),
        (GET + HOST, 408),
    ],
)
def test_client_without_a_request_is_closed_at_the_deadline(service: Process, sent: bytes, status: int | None) -> None:
    """A silent client gets no answer; a client that has sent half a head gets 408."""
    began = time.monotonic()
    answer = say(service.url, sent)

    assert statuses(answer) == ([] if status is None else [status])
    assert HEAD_S - EARLY_S <= time.monotonic() - began < HEAD_S + POLL_S + LATE_S


def test_head_sent_byte_by_byte_times_out(service: Process) -> None:
    """Each byte is progress, but the whole head is late."""
    began = time.monotonic()
    with connected(service.url) as connection:
        answer = drip(connection, GET + HOST + b"X: " + b"y" * 3_000)

    assert statuses(answer) == [408]
    assert time.monotonic() - began < HEAD_S + POLL_S + LATE_S


def test_body_sent_byte_by_byte_times_out(service: Process) -> None:
    """The app answers 408, since it waited for the body."""
    began = time.monotonic()
    with connected(service.url) as connection:
        connection.sendall(POST + b"Content-Length: 100000\r\n\r\n")
        answer = drip(connection, b"\x89PNG" * 1_000)

    assert statuses(answer) == [408]
    assert time.monotonic() - began < 2 * BODY_S + POLL_S + LATE_S


def drip(connection: socket.socket, content: bytes) -> bytes:
    """Send byte by byte until the service closes; return its answer."""
    connection.settimeout(0.02)
    answer = b""
    for byte in content:
        try:
            connection.sendall(bytes([byte]))
            part = connection.recv(65_536)
        except TimeoutError:
            continue
        except OSError:
            connection.settimeout(LATE_S)
            return answer + everything(connection)
        answer += part
        if not part:
            return answer
    raise AssertionError("the connection is still open")


def test_body_that_no_route_reads_times_out(service: Process) -> None:
    """A route without a body answers at once; a client that goes on sending is closed."""
    began = time.monotonic()
    with connected(service.url) as connection:
        connection.sendall(b"GET /livez HTTP/1.1\r\n" + HOST + b"Content-Length: 1000000\r\n\r\n")
        answer = everything(connection)

    assert statuses(answer) == [200]
    assert time.monotonic() - began < BODY_S + POLL_S + LATE_S


def test_idle_connection_is_closed_at_its_deadline(service: Process) -> None:
    """Line feeds between requests do not extend the deadline."""
    with connected(service.url) as connection:
        connection.sendall(b"GET /livez HTTP/1.1\r\n" + HOST + b"\r\n")
        assert status_of_next(connection) == 200
        time.sleep(POLL_S * 1.5)
        connection.sendall(b"GET /livez HTTP/1.1\r\n" + HOST + b"\r\n")
        assert status_of_next(connection) == 200
        began = time.monotonic()
        connection.sendall(b"\r\n")
        assert everything(connection) == b""

    assert time.monotonic() - began < IDLE_S + POLL_S + LATE_S


def test_client_that_does_not_take_an_answer_is_cut_off(service: Process) -> None:
    """The answers of such a client take no memory any more."""
    with connected(service.url) as connection:
        port = connection.getsockname()[1]
        connection.sendall(LONG * 120)  # 10 MB of answers: more than the kernel keeps
        assert connection.recv(1024)
        until(lambda: not is_held(port), "the connection is not closed")
        answers = everything(connection)

    assert len(statuses(answers)) < 120


def test_client_that_leaves_in_the_middle_of_an_answer_is_dropped(service: Process) -> None:
    """The answers that were to follow are not computed."""
    with connected(service.url) as connection:
        port = connection.getsockname()[1]
        connection.sendall(MANY * 60)
        assert connection.recv(1024)
        reset(connection)

    until(lambda: not is_held(port), "the connection is not closed")


def test_client_that_leaves_in_the_middle_of_its_body_is_counted(tmp_path: Path) -> None:
    """The metrics call it 499, though no client receives that status."""
    half = picture()[:-1]
    with serving(tmp_path, "--body-timeout-s=60") as patient, httpx.Client(base_url=patient.url) as client:
        with connected(patient.url) as connection:
            connection.sendall(POST + b"Content-Length: %d\r\n\r\n" % (len(half) + 1) + half)
            until(lambda: "requests_in_flight 2.0" in client.get("/metrics").text, "the body is not awaited")
            reset(connection)

        until(lambda: 'code="499"' in client.get("/metrics").text, "the request is not counted")


def is_held(port: int) -> bool:
    """Whether a process has the other end of the connection from this port; the kernel's own have inode 0."""
    ends = [line.split() for line in Path("/proc/net/tcp").read_text(encoding="ascii").splitlines()]
    return any(end[2].endswith(f":{port:04X}") and end[9] != "0" for end in ends)


@pytest.mark.parametrize("wait_s", [0.0, 0.001, 0.005, 0.05])
def test_clients_that_leave_are_dropped(service: Process, wait_s: float) -> None:
    """Before the computation, during it, or before the whole body was sent."""
    body = picture()
    for number in range(20):
        with connected(service.url) as connection:
            content = POST + b"Content-Length: %d\r\n\r\n" % len(body) + body
            connection.sendall(content[: -(number % 3) or None])
            time.sleep(wait_s)
            reset(connection)

    assert httpx.get(f"{service.url}/v1/sample").status_code == 200


def test_silent_clients_do_not_delay_others(service: Process) -> None:
    """With two hundred silent clients all others are answered; then the silent ones are closed."""
    silent = [socket.create_connection(service.address) for _ in range(200)]
    statuses_meanwhile = {httpx.get(f"{service.url}/v1/sample").status_code for _ in range(20)}
    closed = []
    for connection in silent:
        connection.settimeout(HEAD_S + POLL_S + LATE_S)
        closed.append(connection.recv(1))
        connection.close()

    assert statuses_meanwhile == {200}
    assert closed == [b""] * 200
