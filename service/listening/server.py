"""uvicorn, stopping the way orchestrators expect: readiness turns red first, then requests under way are finished."""

from __future__ import annotations

import asyncio
import gc
import math
import signal
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from typing import NamedTuple

import structlog
import uvicorn
from fastapi import FastAPI
from starlette.types import ASGIApp, Receive, Scope, Send

from ..http.state import Parts
from ..settings import Settings
from .connection import Bounds, Connection
from .shared_port import Acceptor, Connections, SharedPort, url_of

# A caller who connected just before has this long to send a request; after its answer a connection is closed anyway.
LAST_REQUESTS_S = 0.5
LOOK_EVERY = 5  # ticks of uvicorn's loop, which are a tenth of a second

log = structlog.get_logger()


class Worker(NamedTuple):
    """A server's place among those of a port: its number, the port, and the end of a pipe that its parent holds.

    When the pipe's other end is gone, so is the parent, and the server drains. The only server of a port has none.
    """

    number: int
    port: SharedPort
    parent: int | None = None


class Server(uvicorn.Server):
    """A server that drains: on SIGTERM it still takes requests for `drain_s`, on a second signal it ends at once."""

    def __init__(self, app: FastAPI, settings: Settings, worker: Worker) -> None:
        parts: Parts = app.state.parts
        bounds = Bounds(
            settings.max_head_bytes, settings.head_timeout_s, settings.body_timeout_s, settings.idle_timeout_s
        )
        super().__init__(
            uvicorn.Config(
                _past_telemetry(app),
                http=partial(Connection, bounds, parts.metrics),  # type: ignore[arg-type]  # called as a class would be
                ws="none",
                timeout_keep_alive=settings.idle_timeout_s,
                log_config=None,
                access_log=False,
                server_header=False,
                proxy_headers=False,
                forwarded_allow_ips="",  # or uvicorn reads FORWARDED_ALLOW_IPS
                workers=1,  # or uvicorn reads WEB_CONCURRENCY, and fails if that is not a number
                # for a request that has just begun: its body is still to come, and then to be answered
                timeout_graceful_shutdown=math.ceil(settings.body_timeout_s + settings.timeout_s) + 1,
            )
        )
        self._lifecycle = parts.lifecycle
        self._drain_s = settings.drain_s
        self._worker = worker

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Take SIGTERM and Ctrl-C while the server runs; the process then ends with status 0."""
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGTERM, self._stop, self._drain_s)
        loop.add_signal_handler(signal.SIGINT, self._stop, 0.0)
        if self._worker.parent is not None:
            loop.add_reader(self._worker.parent, self._orphaned, self._worker.parent)
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begin to listen, and say where."""
        await super().startup(sockets or [])
        connections = Connections(self._worker.port, self._worker.number)
        self.server_state.connections = connections
        ear = Acceptor(self._worker.port.socket, connections, self._protocol)
        self.servers = [ear]  # type: ignore[list-item]  # uvicorn closes them, and waits until they are closed
        gc.freeze()  # what is there now stays, and need not be looked at by each collection
        log.info("listening", address=url_of(*self._worker.port.socket.getsockname()[:2]))

    async def on_tick(self, counter: int) -> bool:
        """Look after connections whose clients are slow, or silent; and let the parent know that all is well."""
        self._worker.port.sign_on(self._worker.number)
        if counter % LOOK_EVERY == 0:
            now = asyncio.get_running_loop().time()
            for connection in list(self.server_state.connections):
                if isinstance(connection, Connection):
                    connection.look(now)
        return await super().on_tick(counter)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Listen no more, answer the clients that are connected already, then end."""
        self._worker.port.sign_off(self._worker.number)
        for listening in self.servers:
            listening.close()
        with suppress(TimeoutError):
            async with asyncio.timeout(LAST_REQUESTS_S):
                await asyncio.sleep(0.01)  # who was taken last is not among them yet
                while self.server_state.connections:
                    await asyncio.sleep(0.01)
        await super().shutdown(sockets)

    def _protocol(self) -> asyncio.Protocol:
        make = self.config.http_protocol_class
        protocol: asyncio.Protocol = make(  # type: ignore[call-arg]  # it may be of several types
            config=self.config, server_state=self.server_state, app_state=self.lifespan.state
        )
        return protocol

    def _orphaned(self, parent: int) -> None:
        asyncio.get_running_loop().remove_reader(parent)
        self._stop(self._drain_s)

    def _stop(self, after_s: float) -> None:
        if self._lifecycle.is_draining:
            self.should_exit = self.force_exit = True
            return
        self._lifecycle.drain()
        asyncio.get_running_loop().call_later(after_s, setattr, self, "should_exit", True)
        log.info("draining", seconds=after_s)  # last: nobody may be left who reads the log


def _past_telemetry(app: FastAPI) -> ASGIApp:
    """The app without FastAPI's telemetry around it, which looks for its settings at each request, in vain."""

    async def enter(scope: Scope, receive: Receive, send: Send) -> None:
        stack = app.middleware_stack if scope["type"] == "http" else None
        scope["app"] = app
        await (stack or app)(scope, receive, send)

    return enter
