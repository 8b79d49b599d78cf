"""The bare torch loop: how fast the hardware is without a server. `python -m benchmarks.serving.bare`.

Each process of it waits for a line `operation variant seconds` and answers with its images/s: the same batch again and
again, from uint8 pixels to latents and from latents to uint8 pixels, as a server must.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, cast

import torch
from torch import Tensor, nn

from model_store import VAE, Store
from model_store.vae.device import use_channels_last
from model_store.vae.noise import standard_normal

from .. import environments
from . import pictures, servers
from .cases import IMAGES_PER_BATCH, Operation

VARIANTS = ("eager", "channels_last", "frozen")


@dataclass(frozen=True)
class Crew:
    """A number of processes, and the number of torch threads in each."""

    processes: int
    threads: int

    def __str__(self) -> str:
        return f"{self.processes} × {self.threads} threads"


CREWS = (Crew(1, servers.WORKERS * servers.THREADS), Crew(servers.WORKERS, servers.THREADS))


class Encode(nn.Module):
    """uint8 pixels (B, C, H, W) → mean latents (B, D)."""

    def __init__(self, model: VAE) -> None:
        super().__init__()
        if model.encoder is None:
            raise ValueError("This model has no encoder.")
        self.encoder = model.encoder
        self.dimensions = model.config.latent_shape[0]

    def forward(self, pixels: Tensor) -> Tensor:
        """The first half of the encoder's numbers."""
        means: Tensor = self.encoder(pixels.float().div(255))[:, : self.dimensions]
        return means


class Decode(nn.Module):
    """Latents (B, D) → uint8 pixels (B, C, H, W)."""

    def __init__(self, model: VAE) -> None:
        super().__init__()
        self.decoder = model.decoder

    def forward(self, latents: Tensor) -> Tensor:
        """The probabilities of the pixels, as pixels."""
        pixels: Tensor = self.decoder(latents).sigmoid().mul(255).round().to(torch.uint8)
        return pixels


def network(model: VAE, operation: Operation) -> nn.Module:
    """The part of a network that an operation computes."""
    if operation is Operation.BATCH_ENCODE:
        return Encode(model)
    if operation is Operation.BATCH_DECODE:
        return Decode(model)
    return nn.Sequential(Encode(model), Decode(model))


def prepared(model: VAE, operation: Operation, variant: str) -> tuple[nn.Module, Tensor]:
    """A network in a variant, and a batch for it."""
    module = network(model, operation).eval()
    batch = pictures.photos(model.config.image_shape, IMAGES_PER_BATCH)
    if operation is Operation.BATCH_DECODE:
        batch = standard_normal(0, IMAGES_PER_BATCH, model.config.latent_shape)
    if variant == "channels_last":
        use_channels_last(module)
        batch = batch.contiguous(memory_format=torch.channels_last) if batch.dim() == 4 else batch
    if variant == "frozen":
        module = torch.jit.optimize_for_inference(torch.jit.freeze(torch.jit.trace(module, batch)))
    return module, batch


@torch.inference_mode()
def images_per_s(module: nn.Module, batch: Tensor, seconds: float) -> float:
    """Images per second, after a few batches that are not counted."""
    for _ in range(5):
        module(batch)
    began, done = time.perf_counter(), 0
    while (took := time.perf_counter() - began) < seconds:
        module(batch)
        done += len(batch)
    return done / took


@contextmanager
def crew(size: Crew, store: Path, name: str) -> Iterator[list[subprocess.Popen[str]]]:
    """Processes that wait for a line of input. They are killed when the block is left."""
    command = [sys.executable, "-W", "ignore", "-m", "benchmarks.serving.bare", str(store), name, str(size.threads)]
    with ExitStack() as stack:
        processes = []
        for _ in range(size.processes):
            process = subprocess.Popen(
                command, cwd=environments.ROOT, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE
            )
            stack.callback(process.wait)
            stack.callback(process.kill)
            processes.append(process)
        yield processes


def ask(processes: list[subprocess.Popen[str]], operation: Operation, variant: str, seconds: float) -> float:
    """Images/s of all processes together, which compute at the same time.

    Raises:
        RuntimeError: one has ended.
    """
    for process in processes:
        print(operation.value, variant, seconds, file=cast(IO[str], process.stdin), flush=True)
    answers = [cast(IO[str], process.stdout).readline() for process in processes]
    if not all(answers):
        raise RuntimeError(f"a bare loop of {operation}, {variant}, has ended; start it by hand to see why")
    return sum(map(float, answers))


def main(store: Path, name: str, threads: int) -> None:
    """Answer each line of input, until the input ends."""
    torch.set_num_threads(threads)
    shelf = Store(store)
    for line in sys.stdin:
        operation, variant, seconds = line.split()
        model = shelf.load(shelf.resolve(name)).vae.eval()
        with torch.no_grad():
            module, batch = prepared(model, Operation(operation), variant)
        print(images_per_s(module, batch, float(seconds)), flush=True)  # the parent process reads this line


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]))
