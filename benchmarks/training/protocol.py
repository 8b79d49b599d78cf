"""The protocol of a trainer: a task as its argument, a line of input for each epoch, a line of output with images/s.

It imports nothing but torch and the standard library, so that every peer's environment can.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Literal

import torch
from torch import Tensor

IMAGES = 12_800  # of an epoch


@dataclass(frozen=True)
class Task:
    """A recipe with its changes, the network and batch that it gives, the device, and the number of epochs."""

    recipe: str
    overrides: tuple[str, ...]
    network: str  # a VAEConfig as JSON
    image_shape: tuple[int, int, int]
    batch_images: int
    precision: Literal["float32", "bfloat16"]
    device: str
    threads: int
    epochs: int

    def told(self) -> str:
        """The task as an argument of a command."""
        return json.dumps(asdict(self))


def task() -> Task:
    """Read the task of this process, and set its threads."""
    found = Task(**json.loads(sys.argv[1]))
    torch.set_num_threads(found.threads)
    return found


def pixels(image_shape: Sequence[int], seed: int = 0) -> Tensor:
    """Random images, uint8 (12800, C, H, W); a trainer's speed does not depend on their content."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (IMAGES, *image_shape), dtype=torch.uint8, generator=generator)


def train(epochs: int, epoch: Callable[[], None], device: str) -> None:
    """Train an epoch for each line of input."""
    for _ in range(epochs):
        wait_for_turn()
        began = time.perf_counter()
        epoch()
        if device == "cuda":
            torch.cuda.synchronize()
        report(IMAGES / (time.perf_counter() - began))


def wait_for_turn() -> None:
    """Wait for the turn of this trainer; the end of the input ends the process."""
    if not sys.stdin.readline():
        raise SystemExit


def report(images_per_s: float) -> None:
    """Print the speed of the epoch."""
    print(f"images_per_s {images_per_s}", flush=True)  # this is the protocol
