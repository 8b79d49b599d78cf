"""Answers to clients whose requests the app never sees."""

from __future__ import annotations

import asyncio
from typing import cast

import structlog
from uvicorn.protocols.http.httptools_impl import STATUS_LINE

from ..errors import ServiceError
from ..http.access import NO_ROUTE, new_request_id
from ..http.problems import as_problem
from ..telemetry.metrics import Metrics
from ..telemetry.timings import Timings

LINGER_S = 1.0  # for a refused client to finish its request: if bytes of it are not read, the kernel resets the answer

log = structlog.get_logger()


def refusal(error: ServiceError, metrics: Metrics) -> bytes:
    """The whole answer for an error; counted and logged here, since the app never sees the request."""
    request_id = new_request_id()
    problem = as_problem(request_id, error)
    headers = [*problem.raw_headers, (b"x-request-id", request_id.encode()), (b"connection", b"close")]
    metrics.request_answered(NO_ROUTE, "", problem.status_code, 0.0, Timings())
    log.info("request", route=NO_ROUTE, status=problem.status_code, reason=str(error), request_id=request_id)
    lines = [STATUS_LINE[problem.status_code], *(b"%b: %b\r\n" % header for header in headers), b"\r\n"]
    return b"".join([*lines, bytes(problem.body)])


class RefusedConnection(asyncio.Protocol):
    """A connection that is refused before its first request: the answer, and then the end."""

    def __init__(self, answer: bytes) -> None:
        self._answer = answer

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Answer, and read for a moment longer."""
        transport = cast(asyncio.Transport, transport)
        transport.write(self._answer)
        transport.write_eof()
        asyncio.get_running_loop().call_later(LINGER_S, transport.abort)
