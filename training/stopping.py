"""Stopping by a signal: Ctrl-C (SIGINT), SIGTERM, which ends a container or a job, or SIGHUP of a closed terminal.

The module imports nothing slow, so that a command handles signals before its own slow imports. Process 1 of a
container depends on this: the kernel drops every signal for which process 1 has no handler.
"""

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Stopped(KeyboardInterrupt):
    """A signal asked the command to end. Like KeyboardInterrupt, it passes `except Exception`."""

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.is_by_hand = number == signal.SIGINT  # Ctrl-C on a terminal
        self.status = 128 + number  # as a shell reports a command that the signal ended: 130, 143 or 129


def leave_at_once() -> None:
    """From now on, let a signal end the process with one line and its status, without a traceback."""

    def leave(number: int, _: FrameType | None) -> None:
        with suppress(OSError):  # its terminal may have gone
            os.write(2, b"Stopped.\n")
        os._exit(128 + number)

    _handle(leave)


@contextmanager
def raise_stopped() -> Iterator[None]:
    """Let the first signal raise Stopped inside this block; a second signal ends the process at once."""

    def stop(number: int, _: FrameType | None) -> None:
        leave_at_once()
        raise Stopped(number)

    before = {number: signal.getsignal(number) for number in SIGNALS}
    _handle(stop)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _handle(handler: Callable[[int, FrameType | None], None]) -> None:
    for number in SIGNALS:
        if signal.getsignal(number) is not signal.SIG_IGN:  # `nohup` and `&` ask their child to ignore it
            signal.signal(number, handler)
