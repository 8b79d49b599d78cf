"""A spare descriptor: connections may take all files that a process may open, but keys and refusals need one."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress


class SpareDescriptor:
    """A file descriptor that is held, so that a file can be opened when the process may not open another."""

    def __init__(self) -> None:
        self._held: int | None = os.open(os.devnull, os.O_RDONLY)

    def close(self) -> None:
        """Close the descriptor."""
        if self._held is not None:
            os.close(self._held)
            self._held = None

    @contextmanager
    def free(self) -> Iterator[None]:
        """Free the descriptor in this block."""
        self.close()
        try:
            yield
        finally:
            with suppress(OSError):  # another file has taken its place; the next block has no spare then
                self._held = os.open(os.devnull, os.O_RDONLY)
