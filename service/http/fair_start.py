"""Requests begin in turn, and only as many in a turn of the event loop as it bears.

A thousand connections can bring a thousand requests at once. Without turns the event loop would work on all of them
before it looks at a new one, so that a probe waits for a second. Three of four requests that begin belong to the client
with the fewest waiting requests, which so hardly waits. The fourth belongs to the client whose turn it is, so that each
client goes on. A client of which no request waits may begin one in the turn in which it arrives, if few clients do so
and few wait. While the service is idle, a request begins at once.
"""

from __future__ import annotations

import asyncio
import math
import time

from starlette.types import ASGIApp, Receive, Scope, Send

from ..round_robin import RoundRobin
from .client import address_of, client_of
from .keys import Keys

# The time that one turn of the event loop should take. An answer takes several turns, so several clients need short
# ones. One client alone has longer turns, and so larger batches.
TURN_S, ALONE_TURN_S = 0.001, 0.005
LATELY_S = 0.1  # a client is not alone for so long after another one has waited
MOST_AT_ONCE = 64  # requests that begin in one turn
LEAST_AT_ONCE = 1
# Clients of which no request waits, and which begin one in the turn in which it arrives. With hundreds of clients, each
# of which has one request, those that wait would be overtaken again and again.
OVERTAKING, MOST_OVERTAKEN = 2, 50
# For so long after a client has overtaken several others, one request of the others begins in each turn. A single other
# client keeps its large batches: it would lose half its rate.
HURRY_S, SEVERAL = 0.01, 3
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
        self._overtaking: set[str] = set()  # clients, in this turn
        self._hurry_until = -math.inf
        self._last_client = ""  # that has not begun at once
        self._several_until = -math.inf

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on when it may begin."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        if self._waiting or self._begun >= self._most() or self._is_long():
            # Each wrong key would else be a client of its own.
            is_admitted = self._keys.admit(scope["headers"])
            client = client_of(scope, self._keys) if is_admitted else address_of(scope)
            self._note(client)
            if self._may_overtake(client):
                self._overtaking.add(client)
                if self._waiting.clients >= SEVERAL:
                    self._hurry_until = time.perf_counter() + HURRY_S
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

    def _may_overtake(self, client: str) -> bool:
        """Whether a request may begin at once, although requests of other clients wait."""
        if time.perf_counter() >= self._several_until or self._waiting.clients > MOST_OVERTAKEN:
            return False
        if client in self._overtaking or len(self._overtaking) == OVERTAKING:
            return False
        return not self._waiting.count(client)

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

    def _most(self) -> int:
        """The requests that may begin in this turn."""
        return LEAST_AT_ONCE if time.perf_counter() < self._hurry_until else self._at_once

    def _next_turn(self) -> None:
        """Let the next requests begin: half as many as before if a turn was long, one more if it was not."""
        if self._is_long():
            self._at_once = max(self._begun // 2, LEAST_AT_ONCE)
        elif time.perf_counter() >= self._hurry_until:  # turns that are held short tell nothing about longer ones
            self._at_once = min(self._at_once + 1, MOST_AT_ONCE)
        self._begun, self._is_counting = 0, False
        self._overtaking.clear()
        while self._waiting and self._begun < self._most():
            self._taken += 1
            turn = self._waiting.take_of_fewest() if self._taken % ROUND else self._waiting.take()
            if not turn.done():  # its task has not been cancelled
                turn.set_result(None)
                self._count()
