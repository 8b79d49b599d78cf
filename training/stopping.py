"""Stopping by a signal: Ctrl-C (SIGINT), and SIGTERM, which ends a container or a job.

The module imports nothing slow, so that a command can act on signals before its own slow imports. Process 1 of a
container needs that most: the kernel drops every signal for which process 1 has no handler.
"""

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Stopped(KeyboardInterrupt):
    """A signal asked the command to end. As for KeyboardInterrupt, `except Exception` does not catch it."""

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.status = 128 + number  # what a shell reports of a command that the signal ended: 130 or 143


def leave_at_once() -> None:
    """From now on a signal ends the process with one line and its status, without a traceback."""
    for number in SIGNALS:
        if signal.getsignal(number) is not signal.SIG_IGN:  # ignored by the parent's wish, as behind `nohup` or `&`
            signal.signal(number, _leave)


@contextmanager
def raise_stopped() -> Iterator[None]:
    """Let the first signal raise Stopped inside this block; a second one ends the process at once."""
    before = {number: signal.getsignal(number) for number in SIGNALS}
    for number, handler in before.items():
        if handler is not signal.SIG_IGN:
            signal.signal(number, _raise)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _leave(number: int, _: FrameType | None) -> None:
    os.write(2, b"Stopped.\n")
    os._exit(128 + number)


def _raise(number: int, _: FrameType | None) -> None:
    leave_at_once()
    raise Stopped(number)
