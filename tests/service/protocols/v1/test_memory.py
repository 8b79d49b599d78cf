"""What a request reserves to write its answer is enough, in each format and for images and latents of each kind."""

import json
import subprocess
import sys

import pytest

from .peak_memory import FORMATS, IMAGES, LATENTS, Peak

CASES = [
    *(f"{name} {wanted}" for name in IMAGES for wanted in FORMATS),
    *(f"{name} {wanted}" for name in LATENTS for wanted in ("json", "npy", "safetensors")),
]
GRAIN_BYTES = 2**20  # the kernel gives memory in pages, and the allocator keeps some


@pytest.fixture(scope="module")
def peaks() -> dict[str, Peak]:
    """The cases, measured in another process: this one has threads, and a fork would not have them."""
    command = [sys.executable, "-m", "tests.service.protocols.v1.peak_memory"]
    measured = subprocess.run(command, capture_output=True, check=True, timeout=120)
    return {peak[0]: Peak(*peak) for peak in json.loads(measured.stdout)}


@pytest.mark.parametrize("case", CASES)
def test_writing_takes_no_more_than_is_reserved(peaks: dict[str, Peak], case: str) -> None:
    """The peak of the process that writes, beside the pixels and numbers."""
    assert peaks[case].taken <= peaks[case].reserved + GRAIN_BYTES
