"""The IDX files of the MNIST family: a big-endian header, then bytes; packed with gzip or not."""

import gzip
import struct
import zlib
from pathlib import Path

import torch
from torch import Tensor

from ..errors import BadData, DataNotFound
from .splits import Splits

_MAGIC_UINT8_3D = 0x00000803

TRAIN = "train-images-idx3-ubyte"
TEST = "t10k-images-idx3-ubyte"


def find(folder: Path, name: str) -> Path | None:
    """The IDX file of that name, plain or `.gz`, or None."""
    candidates = (folder / name, folder / f"{name}.gz")
    return next((path for path in candidates if path.is_file()), None)


def read_bytes(path: Path) -> bytes:
    """Read a file, and unpack it if its name ends in `.gz`.

    Raises:
        BadData: the file is cut off, or is not gzip.
    """
    if path.suffix != ".gz":
        return path.read_bytes()
    try:
        return gzip.decompress(path.read_bytes())
    except (OSError, EOFError, zlib.error) as error:
        raise BadData(path, f"it does not unpack ({error})") from error


def read_family(folder: Path) -> Splits:
    """Read the training images of a folder, and its test images if it has them."""
    train, test = find(folder, TRAIN), find(folder, TEST)
    if train is None:
        raise DataNotFound(folder, f"it has no {TRAIN} or {TRAIN}.gz")
    return Splits(read_images(train), test=read_images(test) if test else None)


def read_images(path: Path) -> Tensor:
    """Read an IDX file of images as uint8 pixels (N, 1, H, W).

    Raises:
        BadData: the file is not an IDX file of images, or its length differs from its header.
    """
    content = read_bytes(path)
    if len(content) < 16:
        raise BadData(path, f"it has {len(content)} bytes, fewer than the 16 of an IDX header")
    magic, count, height, width = struct.unpack(">4I", content[:16])
    if magic != _MAGIC_UINT8_3D:
        raise BadData(path, f"it begins with {magic:#010x}, but an IDX file of images with {_MAGIC_UINT8_3D:#010x}")
    expected = 16 + count * height * width
    if len(content) != expected or not count:
        raise BadData(path, f"{count} images of {height}×{width} make {expected} bytes, but it has {len(content)}")
    return torch.frombuffer(bytearray(content[16:]), dtype=torch.uint8).view(count, 1, height, width)
