"""Around every request: its id, its line in the log, its place in the metrics, and an answer if all else fails."""

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

RawHeaders = Iterable[tuple[bytes, bytes]]


def new_request_id() -> str:
    """An id for a request that has none of its own."""
    return secrets.token_hex(8)


class Access:
    """Middleware in pure ASGI, the outermost."""

    def __init__(self, app: ASGIApp, metrics: Metrics, lifecycle: Lifecycle) -> None:
        self._app = app
        self._metrics = metrics
        self._lifecycle = lifecycle
        self._log = structlog.get_logger().bind()  # once: a logger that is not bound is made anew for each line

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, and remember how it went."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        state = scope.setdefault("state", {})
        state["request_id"] = request_id = _request_id(scope["headers"])
        state["timings"] = Timings()
        sent = _Sent(send, self._headers(request_id))
        began = time.perf_counter()
        with self._metrics.in_flight.track_inprogress():
            try:
                await self._app(scope, receive, sent)
            except Exception:
                self._log.exception("bug", request_id=request_id)
                if not sent.status:
                    await bug(request_id)(scope, receive, sent)
            self._remember(scope, sent.status, time.perf_counter() - began)

    def _headers(self, request_id: str) -> RawHeaders:
        """What every answer carries; while the service drains, a connection is not used again."""
        closing = [(b"connection", b"close")] if self._lifecycle.is_draining else []
        return [(b"x-request-id", request_id.encode()), *closing]

    def _remember(self, scope: Scope, status: int, seconds: float) -> None:
        route = getattr(scope.get("route"), "path", "none")
        model, timings = scope["state"].get("model", ""), scope["state"]["timings"]
        self._metrics.request_answered(route, model, status, seconds, timings)
        write = self._log.debug if route in _QUIET else self._log.info
        reason = {"reason": scope["state"]["reason"]} if "reason" in scope["state"] else {}
        write(
            "request", method=scope["method"], route=route, model=model, status=status, ms=round(seconds * 1000, 2),
            request_id=scope["state"]["request_id"], **reason,
        )  # fmt: skip


class _Sent:
    """Sends on, adds headers, and knows the status."""

    def __init__(self, send: Send, headers: RawHeaders) -> None:
        self._send = send
        self._headers = headers
        self.status = 0

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            message["headers"] = [*message["headers"], *self._headers]
        await self._send(message)


def _request_id(headers: RawHeaders) -> str:
    """The caller's own id, if it is harmless in a log; else a new one."""
    given = next((value.decode("latin-1") for name, value in headers if name == b"x-request-id"), "")
    return given if _ID.fullmatch(given) else new_request_id()
