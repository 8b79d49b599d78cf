"""`python -m tests.service.protocols.v1.peak_memory`: the memory that reading and writing take, beside its bound.

Each case runs in a process of its own, which Linux tells the most memory that it has used.
"""

from __future__ import annotations

import base64
import ctypes
import io
import json
import os
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import NamedTuple, TypeVar, cast

import numpy as np
import torch
from PIL import Image
from safetensors.numpy import save
from torch import Tensor

from model_store import ModelVersion
from model_store.families import ModelConfig
from model_store.vae.family import ImageShape
from service.errors import ServiceError
from service.formats import pictures, tensors
from service.formats.target import Target
from service.http.negotiation import Format
from service.protocols.v1 import answer_bytes
from service.protocols.v1.answers import bytes_to_write
from service.protocols.v1.array_bodies import read_image_array
from service.protocols.v1.json_bodies import JSON, JSON_VALUE_BYTES, Allowed, read_json_latents
from service.protocols.v1.picture_bodies import read_pictures

T = TypeVar("T")
Shape = tuple[int, ...]

IMAGES: dict[str, tuple[ImageShape, int]] = {
    "grey": ((1, 28, 28), 2048), "colour": ((3, 64, 64), 256), "dots": ((1, 1, 1), 65_536),
    "photo": ((3, 512, 512), 4), "large photo": ((3, 1536, 1536), 1),
}  # fmt: skip
LATENTS: dict[str, tuple[Shape, int]] = {
    "vector": ((16_384,), 32), "map": ((4, 64, 64), 32), "column": ((1024, 1, 1), 128), "row": ((1, 1, 1024), 256),
}  # fmt: skip
FORMATS: tuple[Format, ...] = ("png", "jpeg", "webp", "json", "npy", "safetensors")

VALUES = 200_000  # of JSON
FORM = "multipart/form-data; boundary=B"
TARGET = Target(ModelVersion("any", 1), (3, 64, 64), "stretch", 2**22, 2**24)
PIXEL_BYTES = 24  # of the largest picture


class Peak(NamedTuple):
    """A case, the bytes that it took, and the bytes that a request reserves for it."""

    name: str
    taken: int
    reserved: int


def config_of(image_shape: Shape, latent_shape: Shape) -> ModelConfig:
    """A record as far as writing needs one."""
    return cast(ModelConfig, SimpleNamespace(image_shape=image_shape, latent_shape_of=lambda _: latent_shape))


def status(key: str) -> int:
    """A number of bytes in the status of this process."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(key))
    return int(line.split()[1]) * 1024


def peak_of(work: Callable[[T], object], least: T, whole: T) -> int:
    """The most memory that a function takes for the whole input, in bytes, beside the input."""
    reading, writing = os.pipe()
    if os.fork() == 0:
        attempt(work, least)  # loads what a first call loads
        ctypes.CDLL(None).malloc_trim(0)  # returns free memory, which the work would use first
        Path("/proc/self/clear_refs").write_text("5")  # forgets the peak so far
        before = status("VmRSS")
        attempt(work, whole)
        os.write(writing, str(status("VmHWM") - before).encode())
        os._exit(0)
    os.wait()
    return int(os.read(reading, 32))


def attempt(work: Callable[[T], object], content: T) -> None:
    """Do the work; an input that is refused in the end may take as much memory as another."""
    try:
        work(content)
    except ServiceError:
        return


def write_images(wanted: Format, images: Tensor) -> bytes:
    """Images as answers have them."""
    if wanted == "safetensors":
        return tensors.write_safetensors({"images": images})
    if wanted == "npy":
        return tensors.write_npy(images.permute(0, 2, 3, 1).contiguous())
    if wanted == "json":
        return answer_bytes.write_images_json({}, [images.numpy()])
    return pictures.encode(images.numpy(), wanted)


def written_images() -> Iterator[Peak]:
    """Each format, with random pixels: they cannot be compressed."""
    for name, (shape, count) in IMAGES.items():
        pixels = torch.randint(0, 256, (count, *shape), dtype=torch.uint8)
        for wanted in FORMATS:
            images = pixels / 255 if wanted == "safetensors" else pixels
            taken = peak_of(partial(write_images, wanted), images[:1], images)
            yield Peak(f"{name} {wanted}", taken, count * bytes_to_write(wanted, config_of(shape, (1,)), shape, count))


def written_latents() -> Iterator[Peak]:
    """Each format that has latents; small negative numbers are the longest in JSON."""
    writers: dict[Format, Callable[[Tensor], object]] = {
        "json": lambda rows: answer_bytes.write_json({"latents": rows.numpy()}),
        "npy": tensors.write_npy,
        "safetensors": lambda rows: tensors.write_safetensors({"latents": rows}),
    }
    for name, (shape, count) in LATENTS.items():
        latents = -1e-6 * torch.rand(count, *shape)
        for wanted, write in writers.items():
            reserved = count * bytes_to_write(
                wanted, config_of((1, 1, 1), shape), (1, 1, 1), count, latents=1, has_images=False
            )
            yield Peak(f"{name} {wanted}", peak_of(write, latents[:1], latents), reserved)


def read_numbers() -> Iterator[Peak]:
    """JSON bodies of as many values as are allowed, in the forms that take the most memory for each."""
    members = b",".join(b'"a%d":0' % number for number in range(2 * 256 + 90))
    bodies = {
        "flat numbers": latents_of(b"[%b]" % b",".join([b"0.5"] * 1000), VALUES // 1002),
        "lists of one": latents_of(b"[[0.1]]", VALUES // 3 - 2),
        "empty lists": latents_of(b"[]", VALUES // 2 - 2),
        "empty objects": latents_of(b"{}", VALUES // 2 - 2),
        "objects": latents_of(b'{"a":1}', VALUES // 3 - 2),
        "texts": latents_of(b'"\xc3\xa9"', VALUES - 8),
        "members": b'{"latents":[[0]],' + members + b"}",
    }
    allowed = Allowed(256, VALUES, frozenset())
    for name, body in bodies.items():
        taken = peak_of(lambda body: read_json_latents(body, allowed), latents_of(b"[0]", 1), body)
        yield Peak(name, taken, JSON_VALUE_BYTES * VALUES)


def latents_of(row: bytes, count: int) -> bytes:
    """A JSON body of equal rows."""
    return b'{"latents":[%b]}' % b",".join([row] * count)


def read_images() -> Iterator[Peak]:
    """Bodies of random pictures, of the kinds that take the most memory for each pixel, and many in one body."""
    random = np.random.default_rng(0)
    for mode, (dtype, channels) in {"RGB": ("u1", 3), "RGBA": ("u1", 4), "I;16": ("u2", 1)}.items():
        pixels = random.integers(0, 256, (1024, 1024, channels)).astype(dtype).squeeze()
        picture = encoded(pixels, "PNG")
        yield Peak(f"png {mode}", peak_of(picture_reader("image/png"), encoded(pixels[:9, :9], "PNG"), picture), 0)
    pixels = random.integers(0, 255, (1024, 1024, 3)).astype(np.uint8)
    least = encoded(pixels[:9, :9], "WEBP")
    yield Peak("webp lossless", peak_of(picture_reader("image/webp"), least, encoded(pixels, "WEBP")), 0)
    least = encoded(pixels[:9, :9], "JPEG")
    yield Peak("jpeg", peak_of(picture_reader("image/jpeg"), least, encoded(pixels, "JPEG")), 0)
    small = [encoded(pixels[row : row + 64, :64], "PNG") for row in range(0, 960, 4)]
    yield Peak("form", peak_of(picture_reader(FORM), form(small[:1]), form(small)), len(form(small)))
    yield Peak("base64", peak_of(picture_reader(JSON), texts(small[:1]), texts(small)), len(texts(small)))


def read_arrays() -> Iterator[Peak]:
    """Arrays of each type of number; the service counts four times the body, which it holds already."""
    random = np.random.default_rng(0)
    for kind in ("uint8", "uint16", "bool", "float16", "float32", "float64"):
        pixels = (random.random((400, 64, 64, 3)) * (1 if kind[0] == "f" else 65_535)).astype(kind)
        for media_type, write in (
            (tensors.NPY, npy_file),
            (tensors.SAFETENSORS, lambda array: save({"images": np.ascontiguousarray(array.transpose(0, 3, 1, 2))})),
        ):
            whole = write(pixels)
            taken = peak_of(partial(read_array, media_type), write(pixels[:1]), whole)
            yield Peak(f"{media_type} {kind}", taken, 3 * len(whole))


def read_array(media_type: str, body: bytes) -> object:
    """The pixels of a body."""
    return read_image_array(media_type, body, TARGET)


def npy_file(array: np.ndarray) -> bytes:
    """An npy file."""
    buffer = io.BytesIO()
    np.save(buffer, array)
    return buffer.getvalue()


def picture_reader(content_type: str) -> Callable[[bytes], object]:
    """The function that reads bodies of this type."""
    return lambda body: read_pictures(content_type, body, TARGET, Allowed(256, VALUES, frozenset()))


def encoded(pixels: np.ndarray, kind: str) -> bytes:
    """A picture file."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, kind, lossless=True)
    return buffer.getvalue()


def form(files: list[bytes]) -> bytes:
    """A multipart body."""
    head = b'--B\r\nContent-Disposition: form-data; name="f"; filename="x"\r\n\r\n'
    return b"".join(head + file + b"\r\n" for file in files) + b"--B--\r\n"


def texts(files: list[bytes]) -> bytes:
    """A JSON body of pictures."""
    return json.dumps({"images": [base64.b64encode(file).decode() for file in files]}).encode()


if __name__ == "__main__":
    torch.set_num_threads(1)  # a fork has no other threads
    torch.manual_seed(0)
    kept = PIXEL_BYTES * 2**20 + 2 * 256 * 3 * 64 * 64
    read = [Peak(name, taken, reserved + kept) for name, taken, reserved in read_images()]
    print(json.dumps([*written_images(), *written_latents(), *read_numbers(), *read, *read_arrays()]))  # noqa: T201  # the test reads it
