"""Requests start in turn, and only as many in a turn of the event loop as it bears.

A thousand connections can bring a thousand requests at once. Without turns the event loop would work on all of them
before it looks at a new one, so that a probe waits for a second. Three of four requests that start belong to the client
with the fewest connections, and the fourth to the client whose turn it is. A request of a client that has fewer
connections than each client that waits starts in the turn in which it arrives, if few clients wait.

A request that waits here has no task yet: to make one, and to run it up to here, would cost as much as to read the
request (0.05 ms), and bursts of hundreds of requests were half of the longest turns.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable, Hashable, Mapping
from typing import NamedTuple

from starlette.types import Scope

from ..round_robin import MOST_COMPARED, RoundRobin

# The time that one turn of the event loop should take. An answer takes several turns, so several clients need short
# ones. One client alone has longer turns, and so larger batches.
TURN_S, ALONE_TURN_S = 0.001, 0.005
LATELY_S = 0.1  # a client is not alone for so long after another one has waited
MOST_AT_ONCE = 64  # requests that start in one turn
LEAST_AT_ONCE = 1
OVERTAKING = 4  # requests that overtake others in a turn
# For so long after a request has overtaken several clients, one request of the others starts in each second turn. A
# single other client keeps its large batches: it would lose half its rate.
HURRY_S, SEVERAL, HURRIED_ROUND = 0.01, 3, 2


class Waiting(NamedTuple):
    """A request that waits: its connection, and what starts it."""

    connection: Hashable
    start: Callable[[], object]


class FairStart:
    """The requests that wait for their start. The name of a request's client is `client(scope)`."""

    def __init__(self, client: Callable[[Scope], str]) -> None:
        self._client = client
        self._waiting: RoundRobin[Waiting] = RoundRobin()
        self._waiting_at: dict[Hashable, Waiting] = {}  # by connection, of which one request waits at most
        self._client_at: dict[Hashable, str] = {}  # by connection: the client of its last request
        self._connections: dict[str, int] = {}
        self._at_once = MOST_AT_ONCE
        self._started = 0  # requests that have started in this turn
        self._began_at = 0.0
        self._next: asyncio.Handle | None = None  # of the next turn, while this one has requests
        self._overtaking = 0  # requests, in this turn
        self._turns_in_hurry = 0
        self._hurry_until = -math.inf
        self._last_client = ""  # the last one with a request that could not simply start
        self._several_until = -math.inf

    @property
    def connections(self) -> Mapping[str, int]:
        """The number of connections of each client. A connection belongs to the client of its last request."""
        return self._connections

    def ask(self, connection: Hashable, scope: Scope, start: Callable[[], object]) -> None:
        """Start a request of a connection: now, or in the turn of its client."""
        client = self._client(scope)
        if self._client_at.get(connection) != client:  # behind a proxy, clients share connections
            self.forget(connection)
            self._client_at[connection] = client
            self._connections[client] = self._connections.get(client, 0) + 1
        if self._waiting or self._started >= self._most() or self._is_long():
            self._note(client)
            if not self._may_overtake(client):
                waiting = self._waiting_at[connection] = Waiting(connection, start)
                self._waiting.add(client, waiting)
                return
            self._overtaking += 1
            if self._waiting.clients >= SEVERAL:
                self._hurry_until = time.perf_counter() + HURRY_S
        self._start(start)

    def forget(self, connection: Hashable) -> None:
        """Called when a connection has been lost: its request is not started.

        A client that asks and leaves, again and again, would else fill the memory with requests that wait.
        """
        client = self._client_at.pop(connection, None)
        if client is None:
            return
        if waiting := self._waiting_at.pop(connection, None):
            self._waiting.remove(client, waiting)
        self._connections[client] -= 1
        if not self._connections[client]:
            del self._connections[client]

    def _note(self, client: str) -> None:
        """Note whether several clients ask."""
        if self._last_client and client != self._last_client:
            self._several_until = time.perf_counter() + LATELY_S
        self._last_client = client

    def _may_overtake(self, client: str) -> bool:
        """Whether a request may start at once, although requests of other clients wait."""
        if time.perf_counter() >= self._several_until or self._overtaking == OVERTAKING:
            return False
        # With hundreds of clients, those that wait would be overtaken again and again.
        if not 0 < self._waiting.clients <= MOST_COMPARED:
            return False
        next_client = self._waiting.next_client(self._connections)
        return self._connections[client] < self._connections.get(next_client, 0)

    def _start(self, start: Callable[[], object]) -> None:
        """Start a request in this turn of the event loop."""
        if self._next is None:
            self._began_at = time.perf_counter()
        start()
        self._started += 1
        self._plan()

    def _plan(self) -> None:
        """Plan the next turn behind the first steps of all requests that have started, so that it knows their time."""
        if self._next is not None:
            self._next.cancel()
        self._next = asyncio.get_running_loop().call_soon(self._next_turn)

    def _is_long(self) -> bool:
        """Whether this turn of the event loop has taken its time since the first request started in it."""
        if self._next is None:
            return False
        now = time.perf_counter()
        return now - self._began_at > (TURN_S if now < self._several_until else ALONE_TURN_S)

    def _most(self) -> int:
        """The requests that may start in this turn."""
        return LEAST_AT_ONCE if time.perf_counter() < self._hurry_until else self._at_once

    def _next_turn(self) -> None:
        """Let the next requests start: half as many as before if a turn was long, one more if it was not."""
        is_hurried = time.perf_counter() < self._hurry_until
        if self._is_long():
            self._at_once = max(self._started // 2, LEAST_AT_ONCE)
        elif not is_hurried:  # turns that are held short tell nothing about longer ones
            self._at_once = min(self._at_once + 1, MOST_AT_ONCE)
        self._started = self._overtaking = 0
        self._next, self._began_at = None, time.perf_counter()
        self._turns_in_hurry = self._turns_in_hurry + 1 if is_hurried else 0
        if not self._waiting:
            return
        self._plan()  # first, so that the turns go on even if a start fails
        if self._turns_in_hurry % HURRIED_ROUND:
            return
        while self._waiting and self._started < self._most():
            connection, start = self._waiting.take_fairly(self._connections)
            del self._waiting_at[connection]
            self._start(start)
