"""One client's connection: uvicorn's, with the bounds that make it safe with no proxy in front.

A head is limited in bytes and must name its host, few requests wait behind one another, and there is a deadline for
whatever a client is to send or to take. There is no timer: the server looks at all its connections now and then, and
each closes itself when its time is over.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Sized
from typing import Any, NamedTuple

import httptools
import structlog
from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle

from ..errors import AddressTooLong, BadRequest, HeadTimeout, HeadTooLarge, ServiceError
from ..http.access import new_request_id
from ..http.problems import as_problem
from ..telemetry.metrics import Metrics
from ..telemetry.timings import Timings
from .target import origin_form

NO_ROUTE = "none"
VERSIONS = ("1.0", "1.1")
READ_AHEAD = 4  # requests that wait behind another while more is read; they may have bodies, which nobody counts yet
PIPELINED = 64  # requests that may wait at all, since a single read can bring thousands

log = structlog.get_logger()


class Bounds(NamedTuple):
    """Bytes of a request's head, and seconds: for it to arrive, for a body or an answer to pass, between requests.

    An answer is to be taken within `body_s` in whole. Of several in a row each has that time: the next one is not
    written before the client has taken nearly all of the last.
    """

    head_bytes: int
    head_s: float
    body_s: float
    idle_s: float


class Flow(FlowControl):
    """uvicorn's, which goes on reading only where few requests wait."""

    def __init__(self, transport: asyncio.Transport, waiting: Sized) -> None:
        super().__init__(transport)
        self._waiting = waiting

    def resume_reading(self) -> None:
        """Read on, unless what has been read is enough for now."""
        if len(self._waiting) < READ_AHEAD:
            super().resume_reading()


class Connection(HttpToolsProtocol):
    """A connection that cannot be held open for nothing; `look` is to be called now and then."""

    def __init__(self, bounds: Bounds, metrics: Metrics, **uvicorns: Any) -> None:
        super().__init__(**uvicorns)
        self._bounds = bounds
        self._metrics = metrics
        self._is_in_head = False
        self._head_bytes = 0  # of what has been read of it
        self._unread_bytes = 0  # in reads of which nothing was heard: a header, say, that has no end yet
        self._ends_at = math.inf
        self._stuck_since: float | None = None  # with an answer that the client does not take
        self._at_work: RequestResponseCycle | None = None  # the one that the app answers; `cycle` is the last in line

    def look(self, now: float) -> None:
        """Close it if its time is over, by the loop's clock."""
        if self._is_stuck(now):
            self.transport.abort()
        elif now >= self._ends_at and not self._is_answering and not self.transport.is_closing():
            self._time_out()

    def connection_made(self, transport: Any) -> None:
        """A client has come, and is to send a request."""
        super().connection_made(transport)
        self.flow = Flow(transport, self.pipeline)
        self._expect(self._bounds.head_s)

    def connection_lost(self, exc: Exception | None) -> None:
        """The client has gone; a timer that still ran would keep all that the connection holds."""
        self._unset_keepalive_if_required()
        self._tell_app()
        super().connection_lost(exc)

    def resume_writing(self) -> None:
        """The client has taken an answer, nearly all of it, and the next one has its own time."""
        self._stuck_since = None
        super().resume_writing()

    def data_received(self, data: bytes) -> None:
        """Some bytes have come."""
        self._unset_keepalive_if_required()
        self._unread_bytes += len(data)
        try:
            self.parser.feed_data(data)
            if self._unread_bytes > self._bounds.head_bytes:
                raise HeadTooLarge(self._bounds.head_bytes)
        except httptools.HttpParserUpgrade as upgrade:
            self._decline(data[upgrade.args[0] :])
        except httptools.HttpParserError as error:
            reason = error.__context__
            self._refuse(reason if isinstance(reason, ServiceError) else BadRequest("it is no HTTP/1.1"))
        except HeadTooLarge as error:
            self._refuse(error)

    def on_message_begin(self) -> None:
        """A request begins."""
        super().on_message_begin()
        self._is_in_head, self._head_bytes, self._unread_bytes = True, 0, 0
        self._expect(self._bounds.head_s)
        if len(self.pipeline) >= PIPELINED:
            raise BadRequest(f"{PIPELINED} others wait on its connection; ask again when they are answered")

    def on_url(self, url: bytes) -> None:
        """Some of its address."""
        self._measure(len(url), AddressTooLong)
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        """A header; one that comes behind the body is none, whatever it says."""
        self._measure(len(name) + len(value) + len(b": \r\n"), HeadTooLarge)
        if self._is_in_head:
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """Its head is there, and it can be answered."""
        self._check_head()
        self._read_target()
        self._is_in_head = False
        self._expect(self._bounds.body_s)
        if not self.parser.should_upgrade():
            super().on_headers_complete()
            self._line_up()

    def on_body(self, body: bytes) -> None:
        """Some of its body."""
        self._unread_bytes = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        """Its body is there too, and another request may follow."""
        if not self.parser.should_upgrade():
            super().on_message_complete()
            self._expect(self._bounds.idle_s)

    def on_response_complete(self) -> None:
        """It is answered; a body that still comes keeps its time, and so does the head of the next."""
        if self.pipeline:
            self._at_work = self.pipeline[-1][0]
        super().on_response_complete()
        if not self.cycle.more_body:
            self._expect(self._bounds.head_s if self._is_in_head else self._bounds.idle_s)

    @property
    def _is_answering(self) -> bool:
        """Whether the app is at work, which has deadlines of its own."""
        return self.cycle is not None and not self.cycle.response_complete and not self.cycle.disconnected

    def _line_up(self) -> None:
        """Read on while few wait, so that a client who leaves is noticed."""
        if self.pipeline:
            self.flow.resume_reading()
        else:
            self._at_work = self.cycle

    def _expect(self, within_s: float) -> None:
        self._ends_at = self.loop.time() + within_s

    def _is_stuck(self, now: float) -> bool:
        """Whether something of an answer has been left lying for too long."""
        if not self.transport.get_write_buffer_size():
            self._stuck_since = None
            return False
        self._stuck_since = self._stuck_since or now
        return now - self._stuck_since >= self._bounds.body_s

    def _time_out(self) -> None:
        """Close; a client that has begun to ask is told why."""
        if self._is_in_head:
            self._refuse(HeadTimeout(self._bounds.head_s))
        else:
            self.transport.close()

    def _measure(self, size: int, error: type[AddressTooLong | HeadTooLarge]) -> None:
        self._head_bytes += size
        if self._head_bytes > self._bounds.head_bytes:
            raise error(self._bounds.head_bytes)

    def _check_head(self) -> None:
        version = self.parser.get_http_version()
        if version not in VERSIONS:
            raise BadRequest(f"it is HTTP/{version}, and HTTP/1.1 is spoken here")
        hosts = sum(name == b"host" for name, _ in self.headers)
        if hosts > 1 or (hosts == 0 and version == "1.1"):
            raise BadRequest(f"it has {hosts} Host headers, and takes one")

    def _read_target(self) -> None:
        """Leave the path in the address; where the address names a host, that host counts, and the header does not."""
        self.url, host = origin_form(self.parser.get_method(), self.url)
        if host is not None:
            self.headers[:] = [header for header in self.headers if header[0] != b"host"]
            self.headers.append((b"host", host))

    def _decline(self, rest: bytes) -> None:
        """Read a request again without its Upgrade header, behind which its body would be another protocol's."""
        method, version = self.parser.get_method(), self.parser.get_http_version().encode()
        headers = b"".join(b"%b: %b\r\n" % header for header in self.headers if header[0] != b"upgrade")
        self.parser = httptools.HttpRequestParser(self)
        self.data_received(b"%b %b HTTP/%b\r\n%b\r\n%b" % (method, self.url, version, headers, rest))

    def _refuse(self, error: ServiceError) -> None:
        """Answer what is no request, unless others wait for their answers; then close."""
        if self.transport.is_closing():
            return
        if self._is_answering and (self._is_in_head or self.pipeline):
            self.cycle.keep_alive = False  # the last of those before it closes
            self.flow.pause_reading()
            return
        if not (self._is_answering and self.cycle.response_started):
            self.transport.write(self._answer(error))
        self._hang_up()

    def _answer(self, error: ServiceError) -> bytes:
        """The error as a whole answer, counted and logged here since the app never sees it."""
        request_id = new_request_id()
        problem = as_problem(request_id, error)
        headers = [*problem.raw_headers, (b"x-request-id", request_id.encode()), (b"connection", b"close")]
        self._metrics.request_answered(NO_ROUTE, "", problem.status_code, 0.0, Timings())
        log.info("request", route=NO_ROUTE, status=problem.status_code, reason=str(error), request_id=request_id)
        lines = [STATUS_LINE[problem.status_code], *(b"%b: %b\r\n" % header for header in headers), b"\r\n"]
        return b"".join([*lines, bytes(problem.body)])

    def _hang_up(self) -> None:
        """Close, with nobody left who waits for an answer."""
        self._tell_app()
        self.transport.close()

    def _tell_app(self) -> None:
        """Let it know that nobody waits for it; of those in line behind, none is begun any more."""
        for cycle in (self._at_work, self.cycle):
            if cycle is not None:
                cycle.disconnected = True
                cycle.message_event.set()
