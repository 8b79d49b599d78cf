"""The memory that is reserved to read a body and to write an answer is enough, for each format."""

import json
import subprocess
import sys

import pytest

from .peak_memory import Peak

GRAIN_BYTES = 2**22  # the kernel gives memory in pages, and the allocator and libraries keep some


@pytest.fixture
def peaks() -> list[Peak]:
    """The cases, measured in another process: this one has threads, and a fork would not have them."""
    command = [sys.executable, "-m", "tests.service.protocols.v1.peak_memory"]
    measured = subprocess.run(command, capture_output=True, check=True, timeout=120)
    return [Peak(*peak) for peak in json.loads(measured.stdout)]


def test_each_case_takes_no_more_than_is_reserved(peaks: list[Peak]) -> None:
    """The peak of the process that reads or writes, beside its body, or its pixels and numbers."""
    assert [peak for peak in peaks if peak.taken > peak.reserved + GRAIN_BYTES] == []
    assert len(peaks) > 40
