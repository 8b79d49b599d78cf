"""The peak of this process's memory during a piece of work, as the kernel of Linux counts it."""

from __future__ import annotations

import re
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

from ..free_memory import return_freed_memory

T = TypeVar("T")

_STATUS = Path("/proc/self/status")
_RESET = Path("/proc/self/clear_refs")
_PEAK_TO_NOW = "5"  # the number that sets the peak back to the memory of now: man 5 proc


def with_peak(work: Callable[[], T]) -> tuple[T, int | None]:
    """The result of some work, and the bytes by which the process grew at most; None where that is not known."""
    before = None
    return_freed_memory()  # else it would be used again, and not be counted
    with suppress(OSError, KeyError):
        _RESET.write_text(_PEAK_TO_NOW)
        before = _status()["VmRSS"]
    result = work()
    if before is None:
        return result, None
    return result, max(_status()["VmHWM"] - before, 0) * 1024


def _status() -> dict[str, int]:
    """The sizes in kB, by their names."""
    return {name: int(number) for name, number in re.findall(r"^(\w+):\s+(\d+) kB", _STATUS.read_text(), re.MULTILINE)}
