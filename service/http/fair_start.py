"""Requests begin in turn, and only as many in a turn of the event loop as it bears.

A thousand connections can bring a thousand requests at once. Without turns the event loop would work on all of them
before it looks at a new one, so that a probe waits for a second. Three of four requests that begin belong to the client
with the fewest waiting requests, which so hardly waits. The fourth belongs to the client whose turn it is, so that each
client goes on. A newcomer, which is a client without a waiting request, does not wait at all. While the service is
idle, a request begins at once.
"""

from __future__ import annotations

import asyncio
import math
import time

from starlette.types import ASGIApp, Receive, Scope, Send

from ..round_robin import RoundRobin
from .client import address_of, client_of
from .keys import Keys

# The time that one turn of the event loop should take. An answer takes about ten turns, so several clients need short
# ones. One client alone has longer turns, and so larger batches.
TURN_S, ALONE_TURN_S = 0.001, 0.005
LATELY_S = 0.1  # a client is not alone for so long after another one has waited
MOST_AT_ONCE = 64  # requests that begin in one turn
LEAST_AT_ONCE = 1
NEWCOMERS = 2  # that begin in one turn, each with one request
NEWCOMER_S = 0.01  # for so long after a newcomer has begun, turns are as short as they can be
ROUND = 4  # requests, one of which belongs to the client whose turn it is


class FairStart:
    """Pure ASGI around an app: a request waits here until it is its client's turn."""

    def __init__(self, app: ASGIApp, keys: Keys) -> None:
        self._app = app
        self._keys = keys
        self._waiting: RoundRobin[asyncio.Future[None]] = RoundRobin()
        self._taken = 0
        self._at_once = MOST_AT_ONCE
        self._begun = 0  # requests that have begun in this turn
        self._began_at = 0.0
        self._is_counting = False
        self._newcomers: set[str] = set()  # that have begun in this turn
        self._newcomer_until = -math.inf
        self._last_client = ""  # that has not begun at once
        self._several_until = -math.inf

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on when it may begin."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        if self._waiting or self._begun >= self._at_once or self._is_long():
            # Each wrong key would else be a client of its own.
            is_admitted = self._keys.admit(scope["headers"])
            client = client_of(scope, self._keys) if is_admitted else address_of(scope)
            self._note(client)
            if self._is_newcomer(client):
                self._newcomers.add(client)
                self._newcomer_until = time.perf_counter() + NEWCOMER_S
                self._count()
            else:
                await self._turn_of(client)
        else:
            self._count()
        await self._app(scope, receive, send)

    def _note(self, client: str) -> None:
        """Note whether several clients ask."""
        if self._last_client and client != self._last_client:
            self._several_until = time.perf_counter() + LATELY_S
        self._last_client = client

    def _is_newcomer(self, client: str) -> bool:
        """Whether a request may begin at once, beside the waiting requests of other clients."""
        if time.perf_counter() >= self._several_until or len(self._newcomers) == NEWCOMERS:
            return False
        return client not in self._newcomers and not self._waiting.count(client)

    async def _turn_of(self, client: str) -> None:
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.add(client, turn)
        await turn

    def _count(self) -> None:
        """Count a request that begins in this turn of the event loop."""
        self._begun += 1
        if not self._is_counting:
            self._is_counting, self._began_at = True, time.perf_counter()
            asyncio.get_running_loop().call_soon(self._next_turn)

    def _is_long(self) -> bool:
        """Whether this turn of the event loop has taken its time since the first request began in it."""
        if not self._is_counting:
            return False
        now = time.perf_counter()
        return now - self._began_at > (TURN_S if now < self._several_until else ALONE_TURN_S)

    def _next_turn(self) -> None:
        """Let the next requests begin: half as many as before if a turn was long, one more if it was not."""
        at_once = self._begun // 2 if self._is_long() else self._at_once + 1
        self._at_once = min(max(at_once, LEAST_AT_ONCE), MOST_AT_ONCE)
        self._begun, self._is_counting = 0, False
        self._newcomers.clear()
        most = self._at_once if time.perf_counter() >= self._newcomer_until else LEAST_AT_ONCE
        while self._waiting and self._begun < most:
            self._taken += 1
            turn = self._waiting.take_of_fewest() if self._taken % ROUND else self._waiting.take()
            if not turn.done():  # its task has not been cancelled
                turn.set_result(None)
                self._count()
