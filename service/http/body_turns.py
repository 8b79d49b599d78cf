"""Body turns: in one turn of the event loop only a few parts of large bodies are read, so that other requests go on.

A part has up to 256 kB. With hundreds of clients that send large bodies, the event loop else reads hundreds of parts
before it looks at a small request. Beside all attacks at once, in interleaved runs, the p99 of a small request was 31
to 46 ms without these turns and 28 to 38 ms with them, on two cores (`python -m tests.reliability.all_at_once`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from ..round_robin import RoundRobin

PARTS = 2  # that are read in one turn of the event loop


class BodyTurns:
    """The parts that all bodies may read in this turn of the event loop; a client with few `connections` is first."""

    def __init__(self, connections: Mapping[str, int]) -> None:
        self._connections = connections
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
            turn = self._waiting.take_fairly(self._connections)
            if not turn.done():  # its task has not been cancelled
                turn.set_result(None)
                self._take()
