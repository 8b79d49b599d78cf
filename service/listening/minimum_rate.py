"""Minimum rate: whether a client sends a body, or takes an answer, quickly enough."""

from __future__ import annotations

WINDOW_S = 5.0  # an interruption of a mobile network is shorter
MIN_BYTES = 5_120  # in each window: 1 KiB a second, which the slowest mobile networks reach
# Each window must bring a 64th of the bytes that have arrived before. A client that sends evenly, and in time, brings a
# sixth or more, since a body has six windows by default. A client that holds 32 MiB of memory, and sends as little as
# possible, has to send 512 KiB in each window.
SHARE = 64


class MinimumRate:
    """Counts how far a client has come, in windows of time."""

    def __init__(self) -> None:
        self._since: float | None = None
        self._before = 0

    def is_too_slow(self, now: float, count: int, least: int = MIN_BYTES) -> bool:
        """Whether a window has ended, and the count of bytes has grown by less than `least` in it.

        A count that has become smaller belongs to another body or answer: its window begins now.
        """
        if self._since is not None and count >= self._before and now - self._since < WINDOW_S:
            return False
        is_too_slow = self._since is not None and 0 <= count - self._before < least
        self._since, self._before = now, count
        return is_too_slow

    def reset(self) -> None:
        """Called while the client is not expected to do anything; the next call begins a window."""
        self._since = None
