"""Processes are measured through /proc."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks.serving.process import DidNotStart, Process, descendants

pytestmark = pytest.mark.skipif(not Path("/proc/self/smaps_rollup").exists(), reason="it reads Linux's /proc")

USED_S = 0.1  # the kernel counts in hundredths of a second and may miss shorter work
CHILD = f"""
import time
while time.process_time() < {USED_S}:
    pass
print(1, flush=True)
time.sleep(60)
"""
PARENT = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {CHILD!r}])"


def test_members_are_the_session_and_what_left_it() -> None:
    """3 has its own session but a parent inside, 4 lost its parent but stayed in the session, 5 is unrelated."""
    stats = {1: (0, 1), 2: (9, 2), 3: (2, 3), 4: (1, 2), 5: (1, 5), 6: (3, 3)}

    assert descendants(2, stats) == [2, 3, 4, 6]


@pytest.fixture
def parent(tmp_path: Path) -> Iterator[Process]:
    """A process whose child has worked and now waits."""
    log = tmp_path / "log"
    process = Process([sys.executable, "-c", PARENT], {}, tmp_path, log)
    process.wait_until(lambda: log.read_text().startswith("1"), 30)
    yield process
    process.end()


def test_children_are_seen_and_ended(parent: Process) -> None:
    """The workers of a server are counted, and all of them are ended."""
    assert len(parent.members()) == 2
    assert parent.pss_mib() > 1
    assert parent.cpu_s() >= USED_S / 2
    parent.end()
    assert parent.members() == []


def test_server_that_ends_is_quoted(tmp_path: Path) -> None:
    """The last line of its output is the reason in the report."""
    process = Process([sys.executable, "-c", "raise SystemExit('no such model')"], {}, tmp_path, tmp_path / "log")

    with pytest.raises(DidNotStart, match="status 1: no such model"):
        process.wait_until(lambda: False, 30)
    process.end()
