"""Free memory: the bytes that this process may still take, so that a file that does not fit is refused, not a death."""

from __future__ import annotations

import ctypes
import re
import sys
from contextlib import suppress
from pathlib import Path

MACHINE = Path("/proc/meminfo")
CONTAINER = Path("/sys/fs/cgroup")


def free_memory() -> int:
    """The bytes that are free on the machine, and below the limit of the container (cgroup v2), where it has one.

    Where neither is known, as outside Linux, the answer is larger than every memory.
    """
    free = sys.maxsize
    with suppress(OSError, KeyError):
        free = _numbers(MACHINE)["MemAvailable"] * 1024
    with suppress(OSError, KeyError, ValueError):  # the limit may be the word "max"
        files = _numbers(CONTAINER / "memory.stat")
        cache = files["active_file"] + files["inactive_file"]  # is counted as used, and given back when it is needed
        limit, used = (int((CONTAINER / name).read_text()) for name in ("memory.max", "memory.current"))
        free = min(free, max(limit - used + cache, 0))
    return free


def return_freed_memory() -> None:
    """Give the memory that this process has freed, and keeps for later, back to the system: it counts as used."""
    program = ctypes.CDLL(None)
    with suppress(AttributeError):
        program.malloc_trim(0)  # of glibc: man 3 malloc_trim
    with suppress(AttributeError):
        program.MallocExtension_ReleaseFreeMemory()  # of tcmalloc, where it is preloaded: its malloc_extension_c.h


def memory_shortage(needed: int) -> str:
    """A clause for a message, if fewer bytes than needed are free; else an empty text."""
    if needed > free_memory():
        return_freed_memory()
    free = free_memory()
    return f"takes {needed:,} bytes of memory, but only {free:,} are free" if needed > free else ""


def _numbers(path: Path) -> dict[str, int]:
    """The number of each line, by the word that begins the line."""
    return {name: int(number) for name, number in re.findall(r"^(\w+):? +(\d+)", path.read_text(), re.MULTILINE)}
