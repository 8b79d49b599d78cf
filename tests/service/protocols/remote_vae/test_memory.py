"""The memory that is reserved to read and to write tensors is enough, for each form and type."""

import json
import subprocess
import sys

import pytest

from ..v1.peak_memory import Peak

GRAIN_BYTES = 2**22  # the kernel gives memory in pages, and the allocator and libraries keep some


@pytest.fixture
def peaks() -> list[Peak]:
    """The cases, measured in another process: this one has threads, and a fork would not have them."""
    command = [sys.executable, "-m", "tests.service.protocols.remote_vae.peak_memory"]
    measured = subprocess.run(command, capture_output=True, check=True, timeout=120)
    return [Peak(*peak) for peak in json.loads(measured.stdout)]


def test_each_case_takes_no_more_than_is_reserved(peaks: list[Peak]) -> None:
    """The peak of the process that reads or writes, beside its body or its images and latents."""
    assert [peak for peak in peaks if peak.taken > peak.reserved + GRAIN_BYTES] == []
    assert len(peaks) > 30
