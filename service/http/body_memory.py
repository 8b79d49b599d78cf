"""Memory for the bodies that are being read, of all requests together."""

from __future__ import annotations

from types import TracebackType

from ..errors import Crowded


class BodyMemory:
    """A budget of bytes. A request that needs more than are left is refused; others keep what they have."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.taken = 0

    def share(self) -> Share:
        """Nothing yet; what it takes is given back when its block is left."""
        return Share(self)


class Share:
    """What one request has of it."""

    def __init__(self, memory: BodyMemory) -> None:
        self._memory = memory
        self._taken = 0

    def take(self, size: int) -> None:
        """A number of bytes more.

        Raises:
            Crowded: they are not left.
        """
        if self._memory.taken + size > self._memory.size:
            raise Crowded(self._memory.size)
        self._memory.taken += size
        self._taken += size

    def __enter__(self) -> Share:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._memory.taken -= self._taken
