"""A control group of Linux that bounds the memory of a process and of all that it starts, as a container does.

It is made inside the group of this process, whose own bounds still hold.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

GROUPS = Path("/sys/fs/cgroup")
ENDED_S = 10.0  # for the processes of a killed service to end


class _Files(NamedTuple):
    """The names of a group's files, which differ between the two versions of control groups."""

    limit: str
    most: str
    events: str


_OURS = r"(?m)^\d+:(?:memory)?:(.*)$"  # the first version names its controllers
_FIRST = _Files("memory.limit_in_bytes", "memory.max_usage_in_bytes", "memory.oom_control")
_SECOND = _Files("memory.max", "memory.peak", "memory.events")


class MemoryGroup:
    """A group of processes that together may use a number of bytes."""

    def __init__(self, limit: int) -> None:
        """Make the group.

        Raises:
            OSError: this machine has no such groups, or we may not make one.
        """
        is_first = (GROUPS / "memory/cgroup.procs").exists()
        self._files = _FIRST if is_first else _SECOND
        ours = re.findall(_OURS, Path("/proc/self/cgroup").read_text(encoding="utf-8"))
        if not ours:
            raise FileNotFoundError("this process is in no control group that bounds memory")
        self._outer = (GROUPS / "memory" if is_first else GROUPS) / ours[0].lstrip("/")
        self._group = self._outer / f"latentd-siege-{os.getpid()}"
        self._group.mkdir()
        try:
            (self._group / self._files.limit).write_text(str(limit), encoding="ascii")
        except OSError:
            self.close()
            raise

    @contextmanager
    def joined(self) -> Iterator[None]:
        """Be in the group: a process that is started now stays there."""
        _join(self._group)
        try:
            yield
        finally:
            _join(self._outer)

    def most_mib(self) -> float:
        """The most memory that the group has used, with the files that it has read."""
        return int((self._group / self._files.most).read_text(encoding="ascii")) / 2**20

    def killed(self) -> int:
        """The number of processes that were killed for want of memory."""
        found = re.findall(r"(?m)^oom_kill (\d+)$", (self._group / self._files.events).read_text(encoding="ascii"))
        return int(found[0])

    def close(self) -> None:
        """Remove the group, as soon as its processes have ended."""
        deadline = time.monotonic() + ENDED_S
        while self._group.exists() and time.monotonic() < deadline:
            with suppress(OSError):
                self._group.rmdir()
            time.sleep(0.05)


def _join(group: Path) -> None:
    (group / "cgroup.procs").write_text(str(os.getpid()), encoding="ascii")
