"""Bodies that are not wanted any more, since their requests have been refused, are read slowly and in turn.

A client often sends its whole body before it reads the answer, so the service reads on and throws the bytes away. Five
hundred connections that send 31 MB each would so keep the event loop from all others: one read of each takes 75 ms.
"""

from __future__ import annotations

import asyncio

from ..round_robin import RoundRobin
from .lingering_transport import LingeringTransport

FREE_BYTES = 16_384  # a smaller read costs as much as a pause
ROUND_S = 0.005
READS = 2  # in each round, of up to 256 kB


class UnwantedBodies:
    """The connections whose reading is paused. Their clients, which are addresses, take turns."""

    def __init__(self) -> None:
        self._paused: RoundRobin[LingeringTransport] = RoundRobin()
        self._is_round_due = False

    def have_read(self, client: str, transport: LingeringTransport, size: int) -> None:
        """Called when bytes of an unwanted body have been read: the next ones are read when it is their turn."""
        if size <= FREE_BYTES or transport.is_lost:
            return
        transport.pause_reading()
        self._paused.add(client, transport)
        self._plan()

    def _plan(self) -> None:
        if self._paused and not self._is_round_due:
            self._is_round_due = True
            asyncio.get_running_loop().call_later(ROUND_S, self._read_some)

    def _read_some(self) -> None:
        """Read once from the connections whose turn it is."""
        self._is_round_due = False
        for _ in range(min(READS, len(self._paused))):
            transport = self._paused.take()
            if not transport.is_lost:
                transport.resume_reading()
        self._plan()
