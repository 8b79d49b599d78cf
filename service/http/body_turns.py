"""Body turns: in one turn of the event loop only a few parts of large bodies are read, so that other requests go on.

A part has up to 256 kB. With hundreds of clients that send large bodies, the event loop else reads hundreds of parts
before it looks at a small request. Beside all attacks at once, in interleaved runs, the p99 of a small request was 31
to 46 ms without these turns and 28 to 38 ms with them, on two cores (`python -m tests.reliability.all_at_once`). While
the oldest part came first, each part of a body waited for a part of each of the other connections; while clients took
turns, a body of 4 MB took 0.25 to 0.47 s.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from ..round_robin import RoundRobin

ROUND = 4  # parts, one of which belongs to the client whose turn it is
PARTS = 2  # that are read in one turn of the event loop


class BodyTurns:
    """The parts that all bodies may read in this turn of the event loop.

    Three of four belong to the client with the fewest `connections`, and the fourth to the client whose turn it is.
    """

    def __init__(self, connections: Mapping[str, int]) -> None:
        self._connections = connections
        self._parts = 0
        self._waiting: RoundRobin[asyncio.Future[None]] = RoundRobin()
        self._taken = 0

    async def next_part(self, client: str) -> None:
        """Return when the next part of a client's body may be read: at once, or in a later turn."""
        if self._taken < PARTS:
            self._take()
            return
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.add(client, turn)
        await turn

    def _take(self) -> None:
        if not self._taken:
            asyncio.get_running_loop().call_soon(self._next_turn)
        self._taken += 1

    def _next_turn(self) -> None:
        self._taken = 0
        while self._waiting and self._taken < PARTS:
            self._parts += 1
            turn = self._waiting.take(self._connections) if self._parts % ROUND else self._waiting.take()
            if not turn.done():  # its task has not been cancelled
                turn.set_result(None)
                self._take()
