"""What a trainer is told and what it answers: a line in for each epoch, a line out with its images/s.

It imports nothing but torch and the standard library, so that every peer's environment can.
"""

from __future__ import annotations

import sys

import torch
from torch import Tensor

IMAGES = 60_000


def pixels(shape: tuple[int, int, int], seed: int = 0) -> Tensor:
    """As many grey images as MNIST has, uint8 (60000, C, H, W); a trainer's speed does not depend on what they show."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (IMAGES, *shape), dtype=torch.uint8, generator=generator)


def wait_for_turn() -> None:
    """Wait until this trainer may use the machine; the end of input ends it."""
    if not sys.stdin.readline():
        raise SystemExit


def report(images_per_s: float) -> None:
    """Say how fast the epoch was."""
    print(f"images_per_s {images_per_s}", flush=True)  # this is the protocol
