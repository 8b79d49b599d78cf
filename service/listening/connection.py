"""One client's connection: uvicorn's, with limits, so that the service is safe without a proxy in front of it.

A head is limited in bytes and must name its host. Few requests may wait behind one another. The client has a deadline
for everything that it sends or takes, and a minimum rate for bodies and answers. There is no timer for each connection:
the server calls `close_if_overdue` on all of them a few times a second.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Any

import httptools
from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from ..errors import BadRequest, BodyTooSlow, HeadTimeout, HeadTooLarge, ServiceError
from ..http.access import ASKED_AT
from ..http.fair_start import FairStart
from ..telemetry.metrics import Metrics
from .bounds import Bounds
from .framing import Framing, body_length
from .lingering_transport import LingeringTransport
from .minimum_rate import MIN_BYTES, SHARE, WINDOW_S, MinimumRate
from .refusal import refusal
from .request_target import origin_form
from .unwanted_bodies import UnwantedBodies

VERSIONS = ("1.0", "1.1")
# Reading stops while this number of requests waits, or this number of bytes of their bodies: no budget counts
# them yet. A connection then holds these bytes, and one read more, which has up to 256 kB in uvloop.
READ_AHEAD, READ_AHEAD_BYTES = 4, 65_536
MAX_PIPELINED = 64  # waiting requests at which the connection is refused: one read can bring thousands of small ones
MAX_THROWN_AWAY = 2**25  # bytes that a client may still send when its answer is complete


class Flow(FlowControl):
    """uvicorn's flow control, which resumes reading only when few requests wait, and never after `end`."""

    def __init__(self, transport: asyncio.Transport, pipeline: deque[tuple[RequestResponseCycle, Any]]) -> None:
        super().__init__(transport)
        self._pipeline = pipeline
        self._has_ended = False

    def resume_reading(self) -> None:
        """Resume reading, unless enough waits already."""
        if self.read_paused and not self._has_ended and not self.waits_enough():
            super().resume_reading()

    def waits_enough(self) -> bool:
        """Whether requests wait that have enough bytes, or are enough."""
        waiting = self._pipeline
        return len(waiting) >= READ_AHEAD or sum(len(cycle.body) for cycle, _ in waiting) >= READ_AHEAD_BYTES

    def end(self) -> None:
        """Read no more: the client has ended its part, or sends what cannot be read."""
        self._has_ended = True
        self.pause_reading()


class Connection(HttpToolsProtocol):
    """A connection with deadlines, which `close_if_overdue` enforces.

    uvicorn and this class know three requests, which are the same one when the client does not pipeline:
    `_at_work` is the request that the app answers now, `pipeline` holds the requests behind it, the newest first, and
    `cycle` is the newest request of all.
    """

    transport: LingeringTransport  # type: ignore[assignment]  # uvicorn uses the methods that it has
    flow: Flow

    def __init__(
        self,
        bounds: Bounds,
        metrics: Metrics,
        unwanted: UnwantedBodies,
        fair_start: FairStart,
        on_change: Callable[[], None],
        **uvicorn_options: Any,
    ) -> None:
        """A connection that calls `on_change` when it has been made and when it has been lost.

        The connections of a server share the `unwanted` bodies and the `fair_start` of their requests.
        """
        super().__init__(**uvicorn_options)
        self._unwanted = unwanted
        self._fair_start = fair_start
        self._bounds = bounds
        self._metrics = metrics
        self._on_change = on_change
        self._framing = Framing(bounds.head_bytes)
        self._is_in_head = False  # its first byte has arrived
        self._body_parts: list[bytes] = []  # which the app has not been told of yet
        self._thrown_away = 0
        self._ends_at = math.inf
        self._stuck_since: float | None = None  # since when the client has not taken all of an answer
        self._sending, self._taking = MinimumRate(), MinimumRate()
        self._at_work: RequestResponseCycle | None = None

    def close_if_overdue(self, now: float) -> None:
        """Close the connection if a deadline has passed; `now` is the time of the event loop's clock."""
        # The event loop does not notice a reset while it neither reads nor writes.
        if self._is_stuck(now) or (self.flow.read_paused and self.transport.is_reset()):
            self.transport.abort()
        elif self.transport.is_closing():
            if now >= self._ends_at or self._sending.is_too_slow(now, self._thrown_away):
                self.transport.close()
        elif self._sends_too_slowly(now):
            self._refuse(BodyTooSlow(least=self._min_bytes(), window_s=WINDOW_S))
        elif now < self._ends_at or self.is_answering:
            return
        elif self._is_in_head:
            self._refuse(HeadTimeout(self._bounds.head_s))
        else:
            self.transport.close()

    def connection_made(self, transport: Any) -> None:
        """Called when a client has connected."""
        super().connection_made(LingeringTransport(transport, self._may_still_send))  # type: ignore[arg-type]
        self._on_change()
        self.flow = Flow(transport, self.pipeline)
        self._expect(self._bounds.head_s)

    def connection_lost(self, exc: Exception | None) -> None:
        """Called when the connection has been closed, by either side."""
        self._unset_keepalive_if_required()  # a timer that still runs would keep the connection in memory
        self._mark_disconnected()
        self._fair_start.forget(self)
        super().connection_lost(exc)
        self.transport.detach()
        self._on_change()

    def eof_received(self) -> bool:  # type: ignore[override]  # asyncio's own type; uvicorn's is narrower
        """Called when the client has ended its part; return whether the connection stays open.

        The client has left, or it waits for its answers: the service cannot know, and computes them. The beginning of
        an answer makes the kernel of a client that has left reset the connection.
        """
        if self.transport.is_closing() or not self._end_after_answers():
            return False
        if self._at_work and not self._at_work.response_started:
            self.transport.begin_answer()
        return True

    def resume_writing(self) -> None:
        """Called when the client has taken nearly all that was written; the next answer has its own time."""
        self._taking.reset()
        if not (self._at_work and self._at_work.response_started and not self._at_work.response_complete):
            self._stuck_since = None
        super().resume_writing()

    def data_received(self, data: bytes) -> None:
        """Called when bytes have arrived."""
        self._unset_keepalive_if_required()
        if self.transport.is_closing():
            self._throw_away(len(data))
            self._unwanted.have_read(self.client[0] if self.client else "", self.transport, len(data))
            return
        at = 0
        try:
            while at < len(data):
                piece = self._framing.cut(data, at)
                at += len(piece)
                self.parser.feed_data(piece)
                self._pass_body_on()
                self._framing.check()
        except httptools.HttpParserUpgrade as upgrade:
            # Behind an Upgrade header, the parser takes no body; a new parser reads the request without it.
            method, version = self.parser.get_method(), self.parser.get_http_version().encode()
            headers = b"".join(b"%b: %b\r\n" % header for header in self.headers if header[0] != b"upgrade")
            rest = data[at - len(piece) + upgrade.args[0] :]
            self.parser = httptools.HttpRequestParser(self)
            self._framing.begin_head()
            self.data_received(b"%b %b HTTP/%b\r\n%b\r\n%b" % (method, self.url, version, headers, rest))
        except httptools.HttpParserError as error:
            reason = error.__context__  # the parser wraps what a callback of ours raises
            self._refuse(reason if isinstance(reason, ServiceError) else BadRequest("it is not valid HTTP/1.1"))
        except HeadTooLarge as error:
            self._refuse(error)
        if self.pipeline and self.flow.waits_enough():
            self.flow.pause_reading()
        elif self._is_unwanted:
            self._unwanted.have_read(self.client[0] if self.client else "", self.transport, len(data))

    def on_message_begin(self) -> None:
        """Called at the first byte of a request."""
        super().on_message_begin()
        self._is_in_head = True
        self._expect(self._bounds.head_s)
        if not self.is_answering:
            self._framing.forgive_chunks()
        if len(self.pipeline) >= MAX_PIPELINED:
            raise BadRequest(
                f"{MAX_PIPELINED} requests wait on this connection already; send it again when they are answered"
            )

    def on_url(self, url: bytes) -> None:
        """Called for each part of the address."""
        self._framing.check_address(len(self.url) + len(url))
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        """Called for each header, and for each trailer behind a body; trailers are counted and ignored."""
        if self._is_in_head:
            super().on_header(name, value)
        else:
            self._framing.count_trailer(len(name) + len(value) + len(b": \r\n"))

    def on_headers_complete(self) -> None:
        """Called when the head is complete: the app can begin to answer."""
        self._framing.check()
        version = self.parser.get_http_version()
        if version not in VERSIONS:
            raise BadRequest(f"it is HTTP/{version}, and this service takes HTTP/1.1")
        length = body_length(version, self.headers)
        self.url, host = origin_form(self.parser.get_method(), self.url)
        if host is not None:  # a host in the address replaces the Host header (RFC 9112, section 3.2.2)
            self.headers[:] = [header for header in self.headers if header[0] != b"host"]
            self.headers.append((b"host", host))
        if self.parser.should_upgrade():
            return  # data_received reads the request again, without its Upgrade header
        self._is_in_head = False
        self._framing.begin_body(length)
        self._sending.reset()
        self._expect(self._bounds.body_s)
        self.expect_100_continue &= version != "1.0"  # RFC 9110, section 10.1.1
        super().on_headers_complete()
        if self.pipeline:
            self.flow.resume_reading()  # uvicorn pauses here, and would not notice that the client leaves
        else:
            self._at_work = self.cycle

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        """Called by uvicorn when the app shall answer a request; it starts in the turn of its client."""
        cycle.scope["state"][ASKED_AT] = time.perf_counter()
        start = partial(super()._start_asgi_task, cycle, app)
        self._fair_start.ask(self, cycle.scope, start)  # type: ignore[arg-type]  # uvicorn has types of its own

    def on_body(self, body: bytes) -> None:
        """Called for each part of the body, which is a chunk at most; the app is told once for each read."""
        self._framing.count_body(len(body))
        self._body_parts.append(body)

    def on_message_complete(self) -> None:
        """Called when the body is complete; another request may follow."""
        if self.parser.should_upgrade():
            return
        self._framing.check()
        self._framing.begin_head()
        self._pass_body_on()
        self.cycle.waiting_for_100_continue = False
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

    @property
    def _is_unwanted(self) -> bool:
        """Whether a body arrives whose request has been answered already."""
        return self._framing.is_in_body and self.cycle is not None and self.cycle.response_complete

    def _expect(self, within_s: float) -> None:
        self._ends_at = self.loop.time() + within_s

    def _pass_body_on(self) -> None:
        """Tell the app of the body's new bytes; it wakes up once for all of them."""
        if not self._body_parts:
            return
        parts, self._body_parts = self._body_parts, []
        super().on_body(parts[0] if len(parts) == 1 else b"".join(parts))
        if self.cycle.response_complete and self._framing.body_bytes > MAX_THROWN_AWAY:
            self.transport.close()

    def _is_stuck(self, now: float) -> bool:
        """Whether the client takes its answer too slowly, or has not taken it in the time for it."""
        waiting = self.transport.get_write_buffer_size()
        if not waiting:
            self._stuck_since = None
            self._taking.reset()
            return False
        self._stuck_since = self._stuck_since or now
        return now - self._stuck_since >= self._bounds.body_s or self._taking.is_too_slow(now, -waiting)

    def _sends_too_slowly(self, now: float) -> bool:
        """Whether the client has not sent enough of a body that it can send."""
        waits_for_100 = self.cycle and self.cycle.waiting_for_100_continue
        is_held_up = self.flow.read_paused or self.pipeline or self._is_unwanted or waits_for_100
        if is_held_up or not self._framing.is_in_body:
            self._sending.reset()
            return False
        return self._sending.is_too_slow(now, self._framing.body_bytes, self._min_bytes())

    def _min_bytes(self) -> int:
        return max(MIN_BYTES, self._framing.body_bytes // SHARE)

    def _end_after_answers(self) -> bool:
        """Read no more, answer the complete requests, then close. False if the app has none of them to answer."""
        if self._framing.is_in_body and self.pipeline:  # the newest request will never be complete
            self.pipeline.popleft()
            self.cycle = self.pipeline[0][0] if self.pipeline else self._at_work  # type: ignore[assignment]
            self._framing.begin_head()
        if self._framing.is_in_body or not self.is_answering:
            return False
        self.cycle.keep_alive = False  # uvicorn closes after its answer
        self.flow.end()
        return True

    def _refuse(self, error: ServiceError) -> None:
        """Answer an unusable request with the error and close, but first let the app answer the requests before it."""
        if self.transport.is_closing():
            return
        if self._end_after_answers():
            return  # the unusable request gets no answer
        # The app may be at work on the unusable request, whose body is broken. Its answer, if it has begun, is cut off.
        if not (self._framing.is_in_body and self.cycle.response_started):
            self.transport.write(refusal(error, self._metrics))
        self._mark_disconnected()
        self.flow.end()
        self.transport.close()

    def _may_still_send(self) -> bool:
        """Whether bytes of the client may be unread or under way when the service closes; they have a body's time."""
        if not (self._framing.is_in_body or self.flow.read_paused):
            return False
        self._expect(self._bounds.body_s)
        self._sending.reset()
        return True

    def _throw_away(self, size: int) -> None:
        """Count bytes that the client sends although its answer is complete."""
        self._thrown_away += size
        if self._thrown_away > MAX_THROWN_AWAY:
            self.transport.close()

    def _mark_disconnected(self) -> None:
        """Tell the app that the client has left; requests in the pipeline are not begun any more."""
        for cycle in (self._at_work, self.cycle):
            if cycle is not None:
                cycle.disconnected = True
                cycle.message_event.set()
