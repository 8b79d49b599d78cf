"""Access: gives every request an id, a log line and its place in the metrics, and answers 500 after a bug."""

from __future__ import annotations

import re
import secrets
import time
from collections.abc import Iterable

import structlog
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ..telemetry.metrics import Metrics
from ..telemetry.timings import Timings
from .lifecycle import Lifecycle
from .problems import bug

_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")
_QUIET = frozenset({"/livez", "/readyz", "/healthz", "/metrics"})

NO_ROUTE = "none"  # the route, in the log and the metrics, of a request that reaches no endpoint

RawHeaders = Iterable[tuple[bytes, bytes]]


def new_request_id() -> str:
    """A random id, for a request that brings none."""
    return secrets.token_hex(8)


def request_id_of(headers: RawHeaders) -> str:
    """The id that the client sent, if it is safe to write into a log; else a new one."""
    given = next((value.decode("latin-1") for name, value in headers if name == b"x-request-id"), "")
    return given if _ID.fullmatch(given) else new_request_id()


ASKED_AT = "asked_at"
"""The key in a request's state of the time from which it waited for its start, by the performance counter."""


class Access:
    """The outermost layer of the application, in pure ASGI."""

    def __init__(self, app: ASGIApp, metrics: Metrics, lifecycle: Lifecycle) -> None:
        self._app = app
        self._metrics = metrics
        self._lifecycle = lifecycle
        self._log = structlog.get_logger().bind()  # bound once: structlog makes an unbound logger anew for each line

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on; log and count its response."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        state = scope.setdefault("state", {})
        state["request_id"] = request_id = request_id_of(scope["headers"])
        state["timings"] = Timings()
        headers = [(b"x-request-id", request_id.encode())]
        if self._lifecycle.is_draining:
            headers.append((b"connection", b"close"))  # so that the client sends its next request to another replica
        response = _ResponseObserver(send, headers)
        began = state.get(ASKED_AT) or time.perf_counter()  # requests that wait for their start are not here yet
        with self._metrics.in_flight.track_inprogress():
            try:
                await self._app(scope, receive, response)
            except Exception:
                self._log.exception("bug", request_id=request_id)
                if not response.status:
                    await bug(request_id)(scope, receive, response)
            self._log_and_count(scope, response.status, time.perf_counter() - began)

    def _log_and_count(self, scope: Scope, status: int, seconds: float) -> None:
        route = getattr(scope.get("route"), "path", NO_ROUTE)
        model, timings = scope["state"].get("model", ""), scope["state"]["timings"]
        self._metrics.request_answered(route, model, status, seconds, timings)
        write = self._log.debug if route in _QUIET else self._log.info
        reason = {"reason": scope["state"]["reason"]} if "reason" in scope["state"] else {}
        write(
            "request", method=scope["method"], route=route, model=model, status=status, ms=round(seconds * 1000, 2),
            request_id=scope["state"]["request_id"], **reason,
        )  # fmt: skip


class _ResponseObserver:
    """Passes a response on with more headers, and keeps its status."""

    def __init__(self, send: Send, headers: RawHeaders) -> None:
        self._send = send
        self._headers = headers
        self.status = 0

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            message["headers"] = [*message["headers"], *self._headers]
        await self._send(message)
