"""Budgets of memory: each request reserves the bytes that it holds, and returns them at its end.

A request that finds its budget full is refused at once, so that the process never grows beyond a stated bound
(docs/how-to/bound-the-memory.md). Each process has budgets of its own.

Small reservations have a budget of their own, so that clients with large bodies or answers never shut out the others.
A client may hold as many bytes of a budget as it leaves free, so that one client never takes a whole budget.
"""

from __future__ import annotations

from collections import Counter
from types import TracebackType

from .errors import MemoryFull

SMALL_BYTES = 65_536  # the largest reservation that takes its bytes from the budget for small ones


class Budget:
    """A number of bytes that requests share."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.taken = 0
        self._held: Counter[str] = Counter()  # by client; without clients that hold nothing

    def held_by(self, client: str) -> int:
        """The bytes that all requests of a client hold."""
        return self._held[client]

    def change(self, client: str, size: int) -> None:
        """Take bytes for the client, or return them if the size is negative."""
        self.taken += size
        self._held[client] += size
        if not self._held[client]:
            del self._held[client]


class Memory:
    """The memory for one purpose, such as bodies: a budget for large reservations, and one for small ones.

    `full` is the error that a request gets when its budget has no room.
    """

    def __init__(self, size: int, small_size: int, full: type[MemoryFull]) -> None:
        self.large = Budget(size)
        self.small = Budget(small_size)
        self.full = full

    @property
    def taken(self) -> int:
        """The bytes that all requests hold."""
        return self.large.taken + self.small.taken

    def reserve(self, client: str) -> Reservation:
        """An empty reservation for a client. As a context manager it returns its bytes on exit."""
        return Reservation(self, client)


class Reservation:
    """The bytes that one request holds.

    Attributes:
        client: whose bytes they are.
        size: number of bytes.
    """

    def __init__(self, memory: Memory, client: str) -> None:
        self._memory = memory
        self.client = client
        self._budget = memory.small
        self.size = 0

    def grow_to(self, size: int) -> None:
        """Hold at least `size` bytes. A reservation that grows beyond `SMALL_BYTES` moves to the large budget.

        Raises:
            MemoryFull: the budget has no room for them. The reservation is as it was.
        """
        if size <= self.size:
            return
        budget = self._memory.small if size <= SMALL_BYTES else self._memory.large
        held = self.size if budget is self._budget else 0
        own, free = budget.held_by(self.client) - held, budget.size - budget.taken + held
        if own + size > free:  # all bytes of a client are at most as many as are free before it takes these
            raise self._memory.full(needed=size, own=own, free=free, limit=budget.size)
        self.shrink_to(0)
        self._budget, self.size = budget, size
        budget.change(self.client, size)

    def shrink_to(self, size: int) -> None:
        """Hold at most `size` bytes, and return the others."""
        if size < self.size:
            self._budget.change(self.client, size - self.size)
            self.size = size

    def __enter__(self) -> Reservation:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.shrink_to(0)
