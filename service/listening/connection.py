"""One client's connection: uvicorn's, with limits, so that the service is safe without a proxy in front of it.

A head is limited in bytes and must name its host. Few requests may wait behind one another. The client has a deadline
for everything that it sends or takes. There is no timer for each connection: the server calls `close_if_overdue` on all
of them a few times a second.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Sized
from typing import Any

import httptools
from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from ..errors import AddressTooLong, BadRequest, HeadTimeout, HeadTooLarge, ServiceError
from ..telemetry.metrics import Metrics
from .bounds import Bounds
from .refusal import refusal
from .request_target import origin_form

VERSIONS = ("1.0", "1.1")
READ_AHEAD = 4  # waiting requests at which reading stops: their bodies take memory that `BodyMemory` does not count yet
MAX_PIPELINED = 64  # waiting requests at which the connection is refused: one read can bring thousands of small ones


class Flow(FlowControl):
    """uvicorn's flow control, which resumes reading only when few requests wait."""

    def __init__(self, transport: asyncio.Transport, waiting: Sized) -> None:
        super().__init__(transport)
        self._waiting = waiting

    def resume_reading(self) -> None:
        """Resume reading, unless enough requests wait already."""
        if len(self._waiting) < READ_AHEAD:
            super().resume_reading()


class Connection(HttpToolsProtocol):
    """A connection with deadlines, which `close_if_overdue` enforces.

    uvicorn and this class know three requests, which are the same one when the client does not pipeline:
    `_at_work` is the request that the app answers now, `pipeline` holds the requests behind it, the newest first, and
    `cycle` is the newest request of all.
    """

    def __init__(self, bounds: Bounds, metrics: Metrics, on_change: Callable[[], None], **uvicorn_options: Any) -> None:
        """A connection that calls `on_change` when it has been made and when it has been lost."""
        super().__init__(**uvicorn_options)
        self._bounds = bounds
        self._metrics = metrics
        self._on_change = on_change
        self._is_in_head = False
        self._head_bytes = 0  # of this head, as far as the parser has reported it
        # Bytes since the parser last began a request or reported a part of a body. A header, a trailer or a chunk
        # extension without an end is never reported, but counts here.
        self._unreported_bytes = 0
        self._ends_at = math.inf
        self._stuck_since: float | None = None  # since when the client has not taken all of an answer
        self._at_work: RequestResponseCycle | None = None

    def close_if_overdue(self, now: float) -> None:
        """Close the connection if a deadline has passed; `now` is the time of the event loop's clock."""
        if self.transport.get_write_buffer_size():
            self._stuck_since = self._stuck_since or now
        else:
            self._stuck_since = None
        if self._stuck_since is not None and now - self._stuck_since >= self._bounds.body_s:
            self.transport.abort()
        elif now < self._ends_at or self.is_answering or self.transport.is_closing():
            return
        elif self._is_in_head:
            self._refuse(HeadTimeout(self._bounds.head_s))
        else:
            self.transport.close()

    def connection_made(self, transport: Any) -> None:
        """Called when a client has connected."""
        super().connection_made(transport)
        self._on_change()
        self.flow = Flow(transport, self.pipeline)
        self._expect(self._bounds.head_s)

    def connection_lost(self, exc: Exception | None) -> None:
        """Called when the connection has been closed, by either side."""
        self._unset_keepalive_if_required()  # a timer that still runs would keep the connection in memory
        self._mark_disconnected()
        super().connection_lost(exc)
        self._on_change()

    def resume_writing(self) -> None:
        """Called when the client has taken nearly all of an answer; the next answer has its own time."""
        self._stuck_since = None
        super().resume_writing()

    def data_received(self, data: bytes) -> None:
        """Called when bytes have arrived."""
        self._unset_keepalive_if_required()
        self._unreported_bytes += len(data)
        try:
            self.parser.feed_data(data)
            if self._unreported_bytes > self._bounds.head_bytes:
                raise HeadTooLarge(self._bounds.head_bytes)
        except httptools.HttpParserUpgrade as upgrade:
            # Behind an Upgrade header, the parser takes no body; a new parser reads the request without it.
            method, version = self.parser.get_method(), self.parser.get_http_version().encode()
            headers = b"".join(b"%b: %b\r\n" % header for header in self.headers if header[0] != b"upgrade")
            rest = data[upgrade.args[0] :]
            self.parser = httptools.HttpRequestParser(self)
            self.data_received(b"%b %b HTTP/%b\r\n%b\r\n%b" % (method, self.url, version, headers, rest))
        except httptools.HttpParserError as error:
            reason = error.__context__  # the parser wraps what a callback of ours raises
            self._refuse(reason if isinstance(reason, ServiceError) else BadRequest("it is not valid HTTP/1.1"))
        except HeadTooLarge as error:
            self._refuse(error)

    def on_message_begin(self) -> None:
        """Called at the first byte of a request."""
        super().on_message_begin()
        self._is_in_head, self._head_bytes, self._unreported_bytes = True, 0, 0
        self._expect(self._bounds.head_s)
        if len(self.pipeline) >= MAX_PIPELINED:
            raise BadRequest(
                f"{MAX_PIPELINED} requests wait on this connection already; send it again when they are answered"
            )

    def on_url(self, url: bytes) -> None:
        """Called for each part of the address."""
        self._count_head(len(url), AddressTooLong)
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        """Called for each header, and for each trailer behind a body; trailers are counted and ignored."""
        self._count_head(len(name) + len(value) + len(b": \r\n"), HeadTooLarge)
        if self._is_in_head:
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """Called when the head is complete: the app can begin to answer."""
        version = self.parser.get_http_version()
        if version not in VERSIONS:
            raise BadRequest(f"it is HTTP/{version}, and this service takes HTTP/1.1")
        hosts = sum(name == b"host" for name, _ in self.headers)
        if hosts > 1 or (hosts == 0 and version == "1.1"):
            raise BadRequest(f"it has {hosts} Host headers, and must have one")
        self.url, host = origin_form(self.parser.get_method(), self.url)
        if host is not None:  # a host in the address replaces the Host header (RFC 9112, section 3.2.2)
            self.headers[:] = [header for header in self.headers if header[0] != b"host"]
            self.headers.append((b"host", host))
        self._is_in_head = False
        self._expect(self._bounds.body_s)
        if self.parser.should_upgrade():
            return  # data_received reads the request again, without its Upgrade header
        super().on_headers_complete()
        if self.pipeline:
            self.flow.resume_reading()  # uvicorn pauses here, and would not notice that the client leaves
        else:
            self._at_work = self.cycle

    def on_body(self, body: bytes) -> None:
        """Called for each part of the body."""
        self._unreported_bytes = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        """Called when the body is complete; another request may follow."""
        if not self.parser.should_upgrade():
            super().on_message_complete()
            self._expect(self._bounds.idle_s)

    def on_response_complete(self) -> None:
        """Called when the app has answered; a body that still arrives keeps its deadline, and so does the next head."""
        if self.pipeline:
            self._at_work = self.pipeline[-1][0]
        super().on_response_complete()
        if not self.cycle.more_body:
            self._expect(self._bounds.head_s if self._is_in_head else self._bounds.idle_s)

    @property
    def is_answering(self) -> bool:
        """Whether the app has to answer a request; the app has its own deadlines."""
        return self.cycle is not None and not self.cycle.response_complete and not self.cycle.disconnected

    def _expect(self, within_s: float) -> None:
        self._ends_at = self.loop.time() + within_s

    def _count_head(self, size: int, error: type[AddressTooLong | HeadTooLarge]) -> None:
        self._head_bytes += size
        if self._head_bytes > self._bounds.head_bytes:
            raise error(self._bounds.head_bytes)

    def _refuse(self, error: ServiceError) -> None:
        """Answer an unusable request with the error and close, but first let the app answer the requests before it."""
        if self.transport.is_closing():
            return
        # In a head, or with requests in the pipeline, the unusable request is not the one that the app answers.
        others_come_first = self.is_answering and (self._is_in_head or self.pipeline)
        if others_come_first:
            self.cycle.keep_alive = False  # uvicorn closes after its answer; the unusable request gets none
            self.flow.pause_reading()
            return
        # The app may be at work on the unusable request, whose body is broken. Its answer, if it has begun, is cut off.
        if not (self.is_answering and self.cycle.response_started):
            self.transport.write(refusal(error, self._metrics))
        self._mark_disconnected()
        self.transport.close()

    def _mark_disconnected(self) -> None:
        """Tell the app that the client has left; requests in the pipeline are not begun any more."""
        for cycle in (self._at_work, self.cycle):
            if cycle is not None:
                cycle.disconnected = True
                cycle.message_event.set()
