"""The IDX files of the MNIST family: a big-endian header, then bytes; packed with gzip or not."""

import gzip
import io
import os
import struct
import zlib
from io import BufferedReader
from pathlib import Path
from typing import BinaryIO, cast

import torch
from torch import Tensor

from model_store.files import open_file

from ..errors import BadData, DataNotFound
from .memory import check_memory
from .splits import Splits

_MAGIC_UINT8_3D = 0x00000803
_HEADER = struct.Struct(">4I")
_MOST_PER_BYTE = 1032  # bytes that one byte of gzip can unpack to

TRAIN = "train-images-idx3-ubyte"
TEST = "t10k-images-idx3-ubyte"


def find(folder: Path, name: str) -> Path | None:
    """The IDX file of that name, plain or `.gz`, or None."""
    candidates = (folder / name, folder / f"{name}.gz")
    return next((path for path in candidates if path.is_file()), None)


def read_family(folder: Path) -> Splits:
    """Read the training images of a folder, and its test images if it has them."""
    train, test = find(folder, TRAIN), find(folder, TEST)
    if train is None:
        raise DataNotFound(folder, f"it has no {TRAIN} or {TRAIN}.gz")
    return Splits(read_images(train), test=read_images(test) if test else None)


def read_images(path: Path) -> Tensor:
    """Read an IDX file of images as uint8 pixels (N, 1, H, W); unpack it if its name ends in `.gz`.

    The header says how much is read.

    Raises:
        BadData: the file is not an IDX file of images, its length differs from its header, or it does not unpack.
    """
    try:
        with open_file(path) as file:
            return _read_pixels(path, file)
    except (OSError, EOFError, zlib.error) as error:
        raise BadData(path, f"it cannot be read, or does not unpack ({error})") from error


def unpack(content: bytes, at_most: int) -> bytes:
    """Unpack gzip.

    Raises:
        OSError, EOFError, zlib.error: the content is cut off, is not gzip, or unpacks to more.
    """
    with gzip.GzipFile(fileobj=io.BytesIO(content)) as file:
        unpacked = file.read(at_most + 1)
    if len(unpacked) > at_most:
        raise OSError(f"it unpacks to more than {at_most:,} bytes")
    return unpacked


def _read_pixels(path: Path, file: BufferedReader) -> Tensor:
    size, is_packed = os.fstat(file.fileno()).st_size, path.suffix == ".gz"
    unpacked = cast(BinaryIO, gzip.GzipFile(fileobj=file)) if is_packed else file
    header = unpacked.read(_HEADER.size)
    if len(header) < _HEADER.size:
        raise BadData(path, f"it has {len(header)} bytes, fewer than the {_HEADER.size} of an IDX header")
    magic, count, height, width = _HEADER.unpack(header)
    if magic != _MAGIC_UINT8_3D:
        raise BadData(path, f"it begins with {magic:#010x}, but an IDX file of images with {_MAGIC_UINT8_3D:#010x}")
    expected = _HEADER.size + count * height * width
    found: object = size
    if count and expected <= (size * _MOST_PER_BYTE if is_packed else size):
        check_memory(path, 2 * expected)  # the content and the pixels made of it
        pixels = bytearray(unpacked.read(expected - _HEADER.size))
        has_more = bool(unpacked.read(1))
        found = "more" if is_packed and has_more else size if has_more else _HEADER.size + len(pixels)
        if found == expected:
            return torch.frombuffer(pixels, dtype=torch.uint8).view(count, 1, height, width)
    raise BadData(path, f"{count} images of {height}×{width} make {expected} bytes, but it has {found}")
