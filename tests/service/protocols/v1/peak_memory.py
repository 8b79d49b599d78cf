"""`python -m tests.service.protocols.v1.peak_memory`: the memory that writing answers takes, beside its bound.

Each case runs in a process of its own, which Linux tells the most memory that it has used.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import NamedTuple, cast

import torch
from torch import Tensor

from service.formats import tensors
from service.http.negotiation import Format
from service.operations.session import Session
from service.protocols.v1.answers import bytes_to_write, write_images, write_json

Shape = tuple[int, ...]

IMAGES: dict[str, tuple[Shape, int]] = {
    "grey": ((1, 28, 28), 2048), "colour": ((3, 64, 64), 256), "photo": ((3, 512, 512), 4), "dots": ((1, 1, 1), 65_536),
}  # fmt: skip
LATENTS: dict[str, tuple[Shape, int]] = {
    "vector": ((16_384,), 32), "map": ((4, 64, 64), 32), "column": ((1024, 1, 1), 128), "row": ((1, 1, 1024), 256),
}  # fmt: skip
FORMATS: tuple[Format, ...] = ("png", "jpeg", "webp", "json", "npy", "safetensors")


class Peak(NamedTuple):
    """A case, the bytes that it took, and the bytes that a request reserves for it."""

    name: str
    taken: int
    reserved: int


def session_of(image_shape: Shape, latent_shape: Shape) -> Session:
    """A session as far as writing needs one."""
    config = SimpleNamespace(image_shape=image_shape, latent_shape=latent_shape)
    model = SimpleNamespace(card=SimpleNamespace(model=config), version=SimpleNamespace(name="any", number=1))
    return cast(Session, SimpleNamespace(model=model))


def status(key: str) -> int:
    """A number of bytes in the status of this process."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(key))
    return int(line.split()[1]) * 1024


def peak_of(write: Callable[[Tensor], object], rows: Tensor) -> int:
    """The most memory that a function takes for some rows, in bytes, beside the rows."""
    reading, writing = os.pipe()
    if os.fork() == 0:
        write(rows[:1])  # loads what a first call loads
        Path("/proc/self/clear_refs").write_text("5")  # forgets the peak so far
        before = status("VmRSS")
        write(rows)
        os.write(writing, str(status("VmHWM") - before).encode())
        os._exit(0)
    os.wait()
    return int(os.read(reading, 32))


def peaks() -> Iterator[Peak]:
    """Each format and shape, with random values: nothing can be compressed."""
    torch.set_num_threads(1)  # a fork has no other threads
    torch.manual_seed(0)
    for name, (shape, count) in IMAGES.items():
        session = session_of(shape, (1,))
        pixels = torch.randint(0, 256, (count, *shape), dtype=torch.uint8)
        for wanted in FORMATS:
            taken = peak_of(
                lambda images, wanted=wanted, session=session: write_images(wanted, session, images, None, {}),
                pixels / 255 if wanted == "safetensors" else pixels,
            )
            yield Peak(f"{name} {wanted}", taken, count * bytes_to_write(wanted, session))
    for name, (shape, count) in LATENTS.items():
        session = session_of((1, 1, 1), shape)
        latents = -1e-6 * torch.rand(count, *shape)  # small negative numbers are the longest in JSON
        writers: dict[Format, Callable[[Tensor], object]] = {
            "json": lambda latents, session=session: write_json(session, {"latents": latents}),
            "npy": tensors.write_npy,
            "safetensors": lambda latents: tensors.write_safetensors({"latents": latents}),
        }
        for wanted, write in writers.items():
            reserved = count * bytes_to_write(wanted, session, latents=1, has_images=False)
            yield Peak(f"{name} {wanted}", peak_of(write, latents), reserved)


if __name__ == "__main__":
    print(json.dumps(list(peaks())))  # noqa: T201  # the test reads it
