"""Nobody holds a connection for nothing, and what is no request is answered and closed. Over real sockets."""

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
POLL_S = 0.5  # between two looks at all connections
EARLY_S = 0.01  # the loop counts in whole milliseconds
LATE_S = 3.0  # more than this is not explained by a busy machine


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Process]:
    """One that is impatient, and takes small heads and bodies only."""
    flags = {
        "head-timeout-s": HEAD_S, "body-timeout-s": BODY_S, "idle-timeout-s": IDLE_S, "max-head-bytes": 4096,
        "max-body-bytes": 200_000,
    }  # fmt: skip
    with serving(tmp_path_factory.mktemp("impatient"), *(f"--{name}={value}" for name, value in flags.items())) as it:
        yield it


@pytest.fixture(autouse=True)
def is_unharmed(service: Process) -> Iterator[None]:
    """After each test it is ready, and nothing is under way."""
    yield
    assert unharmed(service) == []


def metrics(service: Process) -> str:
    """What Prometheus is told."""
    return httpx.get(f"{service.url}/metrics").text


def refused(service: Process, status: int) -> float:
    """How often, according to its metrics, with no route known yet."""
    name = f'latentd_requests_total{{code="{status}",model="",route="none"}}'
    return sum(map(float, re.findall(rf"(?m)^{re.escape(name)} (\S+)$", metrics(service))))


def until(holds: Callable[[], object], what: str) -> None:
    """Wait for it, in vain for twenty seconds at most."""
    deadline = time.monotonic() + 20
    while not holds():
        assert time.monotonic() < deadline, what
        time.sleep(0.05)


GET = b"GET /v1/sample HTTP/1.1\r\n"
LONG = b"GET /openapi.json HTTP/1.1\r\n" + HOST + b"\r\n"  # 110 kB
MANY = b"GET /v1/sample?n=256&format=safetensors HTTP/1.1\r\n" + HOST + b"\r\n"
POST = b"POST /v1/encode HTTP/1.1\r\n" + HOST + b"Content-Type: image/png\r\n"

NO_REQUESTS = {
    "noise": (b"\x00\xff\x16\x03\x01 nonsense\r\n\r\n", 400),
    "another protocol": (b"GET /livez HTCPCP/1.0\r\n\r\n", 400),
    "HTTP/0.9": (b"GET /livez\r\n\r\n", 400),
    "HTTP/2.0": (b"GET /livez HTTP/2.0\r\n" + HOST + b"\r\n", 400),
    "no Host": (GET + b"\r\n", 400),
    "two Hosts": (GET + HOST + HOST + b"\r\n", 400),
    "length and chunks": (POST + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
    "two lengths": (POST + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\nabcdef", 400),
    "negative length": (POST + b"Content-Length: -1\r\n\r\n", 400),
    "length that is no number": (POST + b"Content-Length: 0x10\r\n\r\n", 400),
    "chunk that is no number": (POST + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n\r\n", 400),
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
    "long address": (b"GET /" + b"a" * 5_000 + b" HTTP/1.1\r\n" + HOST + b"\r\n", 414),
    "endless address": (b"GET /" + b"a" * 100_000, 414),
    "long header": (GET + HOST + b"X-Long: " + b"a" * 5_000 + b"\r\n\r\n", 431),
    "many headers": (GET + HOST + b"X: y\r\n" * 2_000 + b"\r\n", 431),
}


@pytest.mark.parametrize("name", NO_REQUESTS)
def test_what_is_no_request_is_answered_and_closed(service: Process, name: str) -> None:
    """As a problem, like every other error, and counted."""
    sent, status = NO_REQUESTS[name]
    before = refused(service, status)
    answer = say(service.url, sent)
    head, _, body = answer.partition(b"\r\n\r\n")

    assert statuses(answer) == [status]
    assert b"application/problem+json" in head
    assert b"connection: close" in head
    assert json.loads(body)["status"] == status
    assert len(body) < 1024
    assert refused(service, status) == before + 1


@pytest.mark.parametrize("framing", ["length", "chunks"])
def test_body_that_is_too_large_is_refused_before_it_is_read(service: Process, framing: str) -> None:
    """However its size is told; the rest of it is not awaited."""
    chunk = b"%x\r\n%b\r\n" % (2**20, bytes(2**20))
    head = {"length": b"Content-Length: 999999999\r\n\r\n", "chunks": b"Transfer-Encoding: chunked\r\n\r\n"}
    answer = say(service.url, POST + head[framing], *[chunk if framing == "chunks" else bytes(1000)] * 100)

    assert statuses(answer) == [413]


def test_header_without_an_end_is_refused_while_it_comes(service: Process) -> None:
    """Nobody waits for its end, or keeps it."""
    answer = say(service.url, GET + HOST + b"X-Endless: ", *[b"a" * 1_000] * 100)

    assert statuses(answer) == [431]


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        ("http://example.org", "http://example.org"),
        ("http://example.org?x=1", "http://example.org"),
        ("HTTPS://example.org:8443", "http://example.org:8443"),
        ("http://[::1]:8000/", "http://[::1]:8000"),
    ],
)
def test_whole_address_is_taken_as_its_path(service: Process, address: str, shown: str) -> None:
    """An empty path is `/`; the host that the address names counts, and the Host header does not."""
    answer = say(service.url, f"GET {address} HTTP/1.1\r\nConnection: close\r\n".encode() + HOST + b"\r\n")

    assert statuses(answer) == [200]
    assert f">{shown}<".encode() in answer


@pytest.mark.parametrize("address", ["http://latentd/v1/sample?n=2", "https://latentd:443/v1/sample?n=2"])
def test_whole_address_keeps_its_path_and_query(service: Process, address: str) -> None:
    """An operation is found by it."""
    answer = say(service.url, f"GET {address} HTTP/1.1\r\nConnection: close\r\n".encode() + HOST + b"\r\n")

    assert statuses(answer) == [200]
    assert b"x-model: grey@1" in answer


def test_options_of_the_whole_service_is_answered(service: Process) -> None:
    """`OPTIONS *` asks no more than whether the server answers (RFC 9110, section 9.3.7)."""
    assert statuses(say(service.url, b"OPTIONS * HTTP/1.1\r\nConnection: close\r\n" + HOST + b"\r\n")) == [204]


def test_old_clients_need_name_no_host(service: Process) -> None:
    """Balancers probe with HTTP/1.0."""
    assert statuses(say(service.url, b"GET /readyz HTTP/1.0\r\n\r\n")) == [200]


def test_who_asks_for_another_protocol_is_answered_in_this_one(service: Process) -> None:
    """As Java's client does, with a body at once."""
    body = picture()
    upgrade = b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n"
    answer = say(service.url, POST + upgrade + b"Content-Length: %d\r\n\r\n" % len(body) + body)

    assert statuses(answer) == [200]


def test_who_wants_a_tunnel_is_told_that_this_is_no_proxy(service: Process) -> None:
    """It would have no end."""
    assert statuses(say(service.url, b"CONNECT example.org:443 HTTP/1.1\r\n" + HOST + b"\r\n")) == [400]


def test_headers_behind_a_body_are_none(service: Process) -> None:
    """What was not there when the request was let in cannot come later; too many of them are refused."""
    chunk = b"%x\r\n%b\r\n0\r\n" % (len(picture()), picture())
    head = POST + b"Transfer-Encoding: chunked\r\nConnection: close\r\n\r\n"
    few = say(service.url, head + chunk + b"X-Request-Id: smuggled\r\n\r\n")
    many = say(service.url, head + chunk + b"X: y\r\n" * 5_000 + b"\r\n")

    assert statuses(few) == [200]
    assert b"smuggled" not in few
    assert statuses(many) == [431]


def test_requests_in_a_row_are_answered_in_their_order(service: Process) -> None:
    """Without waiting for each answer; and nonsense behind them does not take their place."""
    ask = b"".join(b"GET /v1/sample?seed=%d&format=json HTTP/1.1\r\n%b\r\n" % (seed, HOST) for seed in range(5))
    answers = say(service.url, ask + b"\x00nonsense\r\n\r\n")

    assert [int(seed) for seed in re.findall(rb'"seed": ?(\d+)', answers)] == list(range(5))
    assert set(statuses(answers)[:5]) == {200}


def test_client_who_never_stops_to_ask_keeps_nobody_waiting(service: Process) -> None:
    """Its first requests are answered, and the others do not take memory."""
    flood = b"GET /livez HTTP/1.1\r\n" + HOST + b"\r\n"
    answers = say(service.url, *[flood * 10_000] * 10)

    assert set(statuses(answers)) == {200}
    assert len(statuses(answers)) <= 1 + MAX_PIPELINED
    assert httpx.get(f"{service.url}/v1/sample").status_code == 200


def test_body_that_breaks_off_is_an_error_of_its_own_request(service: Process) -> None:
    """The app is told that nobody waits."""
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
def test_who_does_not_ask_is_not_waited_for(service: Process, sent: bytes, status: int | None) -> None:
    """Silence is closed in silence, half a head is told so."""
    began = time.monotonic()
    answer = say(service.url, sent)

    assert statuses(answer) == ([] if status is None else [status])
    assert HEAD_S - EARLY_S <= time.monotonic() - began < HEAD_S + POLL_S + LATE_S


def test_head_that_comes_byte_by_byte_runs_out_of_time(service: Process) -> None:
    """However busy it looks."""
    began = time.monotonic()
    with connected(service.url) as connection:
        answer = drip(connection, GET + HOST + b"X: " + b"y" * 3_000)

    assert statuses(answer) == [408]
    assert time.monotonic() - began < HEAD_S + POLL_S + LATE_S


def test_body_that_comes_byte_by_byte_runs_out_of_time(service: Process) -> None:
    """The same, in the app, which says what it waited for."""
    began = time.monotonic()
    with connected(service.url) as connection:
        connection.sendall(POST + b"Content-Length: 100000\r\n\r\n")
        answer = drip(connection, b"\x89PNG" * 1_000)

    assert statuses(answer) == [408]
    assert time.monotonic() - began < 2 * BODY_S + POLL_S + LATE_S


def drip(connection: socket.socket, content: bytes) -> bytes:
    """Send a byte at a time until it is closed; what was answered."""
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
    raise AssertionError("it is still open")


def test_body_that_nobody_reads_runs_out_of_time(service: Process) -> None:
    """A route that takes none answers at once; who goes on sending is closed."""
    began = time.monotonic()
    with connected(service.url) as connection:
        connection.sendall(b"GET /livez HTTP/1.1\r\n" + HOST + b"Content-Length: 1000000\r\n\r\n")
        answer = everything(connection)

    assert statuses(answer) == [200]
    assert time.monotonic() - began < BODY_S + POLL_S + LATE_S


def test_connection_is_kept_for_a_while_and_not_for_ever(service: Process) -> None:
    """Line feeds between requests do not prolong it."""
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


def test_who_does_not_take_an_answer_is_cut_off(service: Process) -> None:
    """Memory is not kept for it."""
    with connected(service.url) as connection:
        port = connection.getsockname()[1]
        connection.sendall(LONG * 120)  # 10 MB of answers: more than the kernel keeps
        assert connection.recv(1024)
        until(lambda: not is_held(port), "it is not closed")
        answers = everything(connection)

    assert len(statuses(answers)) < 120


def test_who_leaves_with_an_answer_half_taken_is_forgotten(service: Process) -> None:
    """And the answers that were to follow are not computed for nobody."""
    with connected(service.url) as connection:
        port = connection.getsockname()[1]
        connection.sendall(MANY * 60)
        assert connection.recv(1024)
        reset(connection)

    until(lambda: not is_held(port), "it is not closed")


def test_who_leaves_with_a_body_half_sent_is_counted(tmp_path: Path) -> None:
    """As 499, which nobody hears."""
    half = picture()[:-1]
    with serving(tmp_path, "--body-timeout-s=60") as patient, httpx.Client(base_url=patient.url) as client:
        with connected(patient.url) as connection:
            connection.sendall(POST + b"Content-Length: %d\r\n\r\n" % (len(half) + 1) + half)
            until(lambda: "requests_in_flight 2.0" in client.get("/metrics").text, "its body is not awaited")
            reset(connection)

        until(lambda: 'code="499"' in client.get("/metrics").text, "it is not counted")


def is_held(port: int) -> bool:
    """Whether a process still has the other end of the connection from this port; the kernel keeps orphans as 0."""
    ends = [line.split() for line in Path("/proc/net/tcp").read_text(encoding="ascii").splitlines()]
    return any(end[2].endswith(f":{port:04X}") and end[9] != "0" for end in ends)


@pytest.mark.parametrize("wait_s", [0.0, 0.001, 0.005, 0.05])
def test_callers_who_leave_are_forgotten(service: Process, wait_s: float) -> None:
    """Before they are computed, meanwhile, or before they have sent all of their body."""
    body = picture()
    for number in range(20):
        with connected(service.url) as connection:
            content = POST + b"Content-Length: %d\r\n\r\n" % len(body) + body
            connection.sendall(content[: -(number % 3) or None])
            time.sleep(wait_s)
            reset(connection)

    assert httpx.get(f"{service.url}/v1/sample").status_code == 200


def test_silent_clients_do_not_keep_others_waiting(service: Process) -> None:
    """Two hundred of them, and everyone else is answered; then they are gone."""
    silent = [socket.create_connection(service.address) for _ in range(200)]
    statuses_meanwhile = {httpx.get(f"{service.url}/v1/sample").status_code for _ in range(20)}
    closed = []
    for connection in silent:
        connection.settimeout(HEAD_S + POLL_S + LATE_S)
        closed.append(connection.recv(1))
        connection.close()

    assert statuses_meanwhile == {200}
    assert closed == [b""] * 200
