"""uvicorn, ending as orchestrators expect: readiness turns red first, then the requests under way are answered."""

from __future__ import annotations

import asyncio
import math
import os
import signal
import socket
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from typing import NamedTuple

import structlog
import uvicorn
from fastapi import FastAPI

from ..errors import TooManyConnections
from ..http.state import AppState
from .bounds import Bounds, Shutdown
from .connection import Connection
from .refusal import refusal
from .shared_port import Acceptor, ConnectionCount, SharedPort, url_of
from .short_turns import keep_turns_short
from .unwanted_bodies import UnwantedBodies

CONNECT_S = 0.2  # for the last packet of a client that has begun to connect, which takes a round trip
LAST_REQUESTS_S = 0.5  # for a client that connected just before the end to send its request
CATCH_UP_S = 60.0  # for a new worker to read the models that the others serve
CHECKED_AT_ONCE = 50  # connections; a thousand took 5 ms of one turn of the event loop
POLL_TICKS = 5  # of uvicorn's main loop, which are a tenth of a second each

log = structlog.get_logger()


def draining_signals() -> list[signal.Signals]:
    """The signals that drain the service. A program that starts it may have turned off SIGHUP, as `nohup` does."""
    numbers = [signal.SIGTERM, signal.SIGINT]
    return numbers if signal.getsignal(signal.SIGHUP) == signal.SIG_IGN else [*numbers, signal.SIGHUP]


class PortSlot(NamedTuple):
    """One server's place at a port that several servers may share.

    Attributes:
        number: of this server, from 0.
        port: that the servers share.
        parent: the reading end of a pipe whose writing end the parent process holds. When it is closed, the parent has
            ended, and the server drains. A server without a parent has no pipe.
    """

    number: int
    port: SharedPort
    parent: int | None = None


class Server(uvicorn.Server):
    """A server that drains: after SIGTERM it still accepts requests for a while; a second signal ends it at once."""

    def __init__(self, app: FastAPI, slot: PortSlot, bounds: Bounds, shutdown: Shutdown) -> None:
        super().__init__(
            uvicorn.Config(
                app,
                ws="none",
                timeout_keep_alive=bounds.idle_s,
                log_config=None,
                access_log=False,
                server_header=False,
                proxy_headers=False,
                forwarded_allow_ips="",  # or uvicorn reads FORWARDED_ALLOW_IPS
                workers=1,  # or uvicorn reads WEB_CONCURRENCY, and fails if that is not a number
                # for a request that has just begun: its body is still to come, and then to be answered
                timeout_graceful_shutdown=math.ceil(bounds.body_s + shutdown.answer_s) + 1,
            )
        )
        parts: AppState = app.state.parts
        self._metrics = parts.metrics
        self._lifecycle = parts.lifecycle
        self._registry = parts.registry
        self._fair_start = parts.fair_start
        self._slot = slot
        self._bounds = bounds
        self._drain_s = shutdown.drain_s

    def run(self, sockets: list[socket.socket] | None = None) -> None:
        """Serve until a signal. Threads that still work then are abandoned: to read a model may never end."""
        asyncio.Runner(loop_factory=self.config.get_loop_factory()).run(self.serve(sockets))

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Drain when a signal asks for it, while the server runs; the process then ends with status 0."""
        loop = asyncio.get_running_loop()
        taken = draining_signals()
        for number in taken:
            loop.add_signal_handler(number, self.drain, 0.0 if number == signal.SIGINT else self._drain_s)

        def parent_ended(parent: int) -> None:
            loop.remove_reader(parent)  # a closed pipe stays readable, and would be reported again and again
            self.drain(self._drain_s)

        if self._slot.parent is not None:
            loop.add_reader(self._slot.parent, parent_ended, self._slot.parent)
        yield
        for number in taken:  # another signal would now find the default, and the status would not be 0
            loop.remove_signal_handler(number)
            signal.signal(number, lambda *_: os._exit(0))

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begin to listen, and log the address."""
        await super().startup(sockets or [])
        await self._catch_up()
        port = self._slot.port.socket
        count = ConnectionCount(self._slot.port, self._slot.number, self.server_state.connections)

        unwanted = UnwantedBodies()

        def connection() -> Connection:
            return Connection(
                self._bounds, self._metrics, unwanted, self._fair_start, count.publish,
                config=self.config, server_state=self.server_state, app_state=self.lifespan.state,
            )  # fmt: skip

        self._acceptor = Acceptor(port, count, connection, lambda: refusal(TooManyConnections(), self._metrics))
        self.servers = [self._acceptor]  # type: ignore[list-item]  # uvicorn calls close and wait_closed of it, no more
        keep_turns_short()
        log.info("listening", address=url_of(*port.getsockname()[:2]))

    async def _catch_up(self) -> None:
        """Wait, while other workers serve newer models, until this one has read them too; they answer meanwhile."""
        loop = asyncio.get_running_loop()
        ends_at = loop.time() + CATCH_UP_S
        while not (self._registry.catch_up() or self.should_exit or loop.time() > ends_at):
            self._slot.port.heartbeat(self._slot.number)
            await asyncio.sleep(0.05)

    async def on_tick(self, counter: int) -> bool:
        """Called ten times a second: tell the parent that the event loop turns, and close overdue connections."""
        self._slot.port.heartbeat(self._slot.number)
        if counter % POLL_TICKS == 0:
            await close_overdue(self.server_state.connections)
        return await super().on_tick(counter)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Stop listening, answer the clients that have connected already, then end."""
        self._slot.port.retire(self._slot.number)
        self._acceptor.hold_new_clients()
        await asyncio.sleep(CONNECT_S)
        self._acceptor.close()
        with suppress(TimeoutError):
            async with asyncio.timeout(LAST_REQUESTS_S):
                await asyncio.sleep(0.01)  # the connections that were accepted last are not in the set yet
                while self.server_state.connections:
                    await asyncio.sleep(0.01)
        await super().shutdown(sockets)

    def drain(self, after_s: float) -> None:
        """Turn readiness red, and end after `after_s` seconds; a second call ends at once."""
        if self._lifecycle.is_draining:
            self.should_exit = self.force_exit = True
            return
        self._lifecycle.drain()
        asyncio.get_running_loop().call_later(after_s, setattr, self, "should_exit", True)
        log.info("draining", seconds=after_s)  # last, so that the service ends even if its log cannot be written


async def close_overdue(connections: Collection[object]) -> None:
    """Close the overdue ones of many connections, with other turns of the event loop in between."""
    loop = asyncio.get_running_loop()
    for number, connection in enumerate(list(connections), start=1):
        # All of them are of this class; uvicorn's type says less. Some may have been lost in the turns in between.
        if isinstance(connection, Connection) and connection in connections:
            connection.close_if_overdue(loop.time())
        if number % CHECKED_AT_ONCE == 0:
            await asyncio.sleep(0)
