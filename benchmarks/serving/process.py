"""A server's processes: started in a session of their own, measured through /proc, and ended for certain.

The module knows no HTTP, and works on Linux only.
"""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

PROC = Path("/proc")
TICKS_PER_S = os.sysconf("SC_CLK_TCK")
END_S = 10.0
POLL_S = 0.02
TOLD_CHARACTERS = 200
KEPT = (
    "PATH",
    "HOME",
    "LANG",
    "LC_ALL",
    "TMPDIR",
    "JAVA_HOME",
    "CUDA_VISIBLE_DEVICES",
)  # else every server has the same, empty environment


class DidNotStart(Exception):
    """A server ended, or gave no right answer in time; the message has its last line of output."""


class Process:
    """A command with its children; their output goes to the file `log`."""

    def __init__(self, command: Sequence[str], environment: Mapping[str, str], folder: Path, log: Path) -> None:
        kept = {name: os.environ[name] for name in KEPT if name in os.environ}
        self._log = log
        self.began = time.perf_counter()
        with log.open("wb") as file:
            self._leader = subprocess.Popen(
                command,
                cwd=folder,
                env={**kept, **environment},
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def wait_until(self, is_ready: Callable[[], bool], timeout_s: float) -> float:
        """Seconds from the start until `is_ready`.

        Raises:
            DidNotStart: it ended before, or took longer.
        """
        while not is_ready():
            if self._leader.poll() is not None:
                raise DidNotStart(f"it ended with status {self._leader.returncode}: {self._last_words()}")
            if time.perf_counter() - self.began > timeout_s:
                raise DidNotStart(f"no answer in {timeout_s:.0f} s: {self._last_words()}")
            time.sleep(POLL_S)
        return time.perf_counter() - self.began

    def cpu_s(self) -> float:
        """CPU seconds of its living processes, and of the children that they have waited for."""
        return sum(_cpu_ticks(pid) for pid in self.members()) / TICKS_PER_S

    def pss_mib(self) -> float:
        """Memory of all its processes in MiB; a page that several share counts once."""
        return sum(_pss_kib(pid) for pid in self.members()) / 1024

    def members(self) -> list[int]:
        """The ids of the processes in the session, and of their descendants outside of it."""
        return descendants(self._leader.pid, _stats())

    def end(self) -> None:
        """Ask the process group to stop, and kill the processes that are left after `END_S` seconds."""
        members = self.members()
        _signal_group(self._leader.pid, signal.SIGTERM)
        deadline = time.perf_counter() + END_S
        while any(map(_is_alive, members)) and time.perf_counter() < deadline:
            self._leader.poll()
            time.sleep(POLL_S)
        for pid in filter(_is_alive, {*members, *self.members()}):
            _signal(pid, signal.SIGKILL)
        self._leader.wait()

    def _last_words(self) -> str:
        lines = self._log.read_text(errors="replace").strip().splitlines()
        return lines[-1].strip()[:TOLD_CHARACTERS] if lines else "it said nothing"


def descendants(leader: int, stats: Mapping[int, tuple[int, int]]) -> list[int]:
    """The processes (id → parent, session) that are in the leader's session or descend from one of these."""
    members = {pid for pid, (_, session) in stats.items() if session == leader} | ({leader} & stats.keys())
    while more := {pid for pid, (parent, _) in stats.items() if parent in members} - members:
        members |= more
    return sorted(members)


def _stats() -> dict[int, tuple[int, int]]:
    """Parent and session of every process that lives."""
    pids = [int(entry.name) for entry in PROC.iterdir() if entry.name.isdecimal()]
    fields = {pid: _stat(pid) for pid in pids}
    return {pid: (int(stat[1]), int(stat[3])) for pid, stat in fields.items() if _lives(stat)}


def _stat(pid: int) -> list[str]:
    """The fields of /proc/PID/stat from the state on; none where the process has gone."""
    try:
        return (PROC / str(pid) / "stat").read_text(errors="replace").rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return []


def _cpu_ticks(pid: int) -> int:
    return sum(map(int, _stat(pid)[11:15]))  # of itself and of its dead children, in user mode and in the kernel


def _pss_kib(pid: int) -> int:
    try:
        lines = (PROC / str(pid) / "smaps_rollup").read_text().splitlines()
    except (FileNotFoundError, ProcessLookupError):
        return 0
    return sum(int(line.split()[1]) for line in lines if line.startswith("Pss:"))


def _is_alive(pid: int) -> bool:
    return _lives(_stat(pid))


def _lives(stat: list[str]) -> bool:
    """Whether the process exists and is not a zombie, which waits only for its parent to read its status."""
    return bool(stat) and stat[0] not in "ZX"


def _signal(pid: int, number: signal.Signals) -> None:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return


def _signal_group(leader: int, number: signal.Signals) -> None:
    try:
        os.killpg(leader, number)
    except ProcessLookupError:
        return
