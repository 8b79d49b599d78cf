"""Processes, looked at through /proc."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks.serving.process import DidNotStart, Process, descendants

pytestmark = pytest.mark.skipif(not Path("/proc/self/smaps_rollup").exists(), reason="it reads Linux's /proc")

USED_S = 0.1  # the kernel counts in hundredths of a second, and need not see what took less
CHILD = f"""
import time
while time.process_time() < {USED_S}:
    pass
print(1, flush=True)
time.sleep(60)
"""
PARENT = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {CHILD!r}])"


def test_members_are_the_session_and_what_left_it() -> None:
    """3 has a session of its own but a parent within, 4 was orphaned but stayed in the session, 5 is a stranger."""
    stats = {1: (0, 1), 2: (9, 2), 3: (2, 3), 4: (1, 2), 5: (1, 5), 6: (3, 3)}

    assert descendants(2, stats) == [2, 3, 4, 6]


@pytest.fixture
def parent(tmp_path: Path) -> Iterator[Process]:
    """A process with a child that has worked, and waits."""
    log = tmp_path / "log"
    process = Process([sys.executable, "-c", PARENT], {}, tmp_path, log)
    process.wait_until(lambda: log.read_text().startswith("1"), 30)
    yield process
    process.end()


def test_children_are_seen_and_ended(parent: Process) -> None:
    """A server's workers count, and none of them is left behind."""
    assert len(parent.members()) == 2
    assert parent.pss_mib() > 1
    assert parent.cpu_s() >= USED_S / 2
    parent.end()
    assert parent.members() == []


def test_server_that_ends_is_quoted(tmp_path: Path) -> None:
    """Its last line is the reason that a reader sees."""
    process = Process([sys.executable, "-c", "raise SystemExit('no such model')"], {}, tmp_path, tmp_path / "log")

    with pytest.raises(DidNotStart, match="status 1: no such model"):
        process.wait_until(lambda: False, 30)
    process.end()
