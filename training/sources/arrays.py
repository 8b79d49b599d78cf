"""Images in NumPy's files: (N, H, W), (N, H, W, C) with C from 1 to 4, or binary images as packed bits (N, C·H·W/8).

As in the service, values are uint8, uint16, booleans, or floats in [0, 1], and alpha (the last of 2 or 4 channels) is
composited on the background. An `.npy` holds one array. An `.npz` holds `images`, or `train` and `test`, or `x_train`
and `x_test`; the images that choose the weights are `val`, `valid` or `validation`.
"""

import os
import zipfile
from pathlib import Path
from typing import BinaryIO

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from model_store.files import open_file
from model_store.pictures import Background, UnusablePicture, picture_to_pixels, pixels_to_picture, to_uint8

from ..console import warn
from ..errors import BadData
from .memory import check_memory
from .splits import Splits

Shape = tuple[int, int, int]

_TRAIN = ("images", "train", "x_train")
_VALIDATION = ("val", "valid", "validation", "x_val", "x_valid", "x_validation")
_TEST = ("test", "x_test")
_ON = 255


def read_arrays(path: Path, image_shape: Shape, background: Background = "black") -> Splits:
    """Read the images of an array file; only packed bits need `image_shape`.

    Raises:
        BadData: the file cannot be read, or does not hold images.
    """
    try:
        with open_file(path) as file:  # NumPy leaves a broken archive open that it opened itself
            check_memory(path, 2 * unpacked_bytes(file))  # the arrays and the pixels made of them
            content = np.load(file, allow_pickle=False)
            if isinstance(content, np.ndarray):
                return Splits(array_to_pixels(path, content, image_shape, background))
            with content:
                return archive_splits(path, content, image_shape, background)
    except BadData:
        raise
    except Exception as error:  # NumPy, zipfile and zlib raise many kinds of errors for broken files
        reason = str(error) or type(error).__name__
        if "pickle" in reason:
            reason = "it holds Python objects instead of numbers, or is not an array file"
        raise BadData(path, f"NumPy cannot read it ({reason})") from error


def unpacked_bytes(file: BinaryIO) -> int:
    """The bytes of all arrays of a file, as the list of an archive states them; no array can give more."""
    if not zipfile.is_zipfile(file):
        return file.seek(0, os.SEEK_END) + file.seek(0)
    with zipfile.ZipFile(file) as archive:
        total = sum(member.file_size for member in archive.infolist())
    return total + file.seek(0)


def archive_splits(path: Path, content: np.lib.npyio.NpzFile, image_shape: Shape, background: Background) -> Splits:
    """Read the arrays of an `.npz` by their names; a warning names the arrays that are left out.

    Raises:
        BadData: the file has no array to train on, or an array does not hold images.
    """
    found = [next((name for name in names if name in content), None) for names in (_TRAIN, _VALIDATION, _TEST)]
    train, validation, test = found
    if train is None:
        raise BadData(
            path,
            f"it holds {', '.join(content) or 'no arrays'}; expected images, train and test, or x_train and x_test",
        )
    if others := [name for name in content if name not in found]:
        warn(f"Left out of {path}: the arrays {', '.join(others)}.")
    return Splits(
        array_to_pixels(path, content[train], image_shape, background),
        None if validation is None else array_to_pixels(path, content[validation], image_shape, background),
        None if test is None else array_to_pixels(path, content[test], image_shape, background),
    )


def array_to_pixels(path: Path, array: NDArray[np.generic], image_shape: Shape, background: Background) -> Tensor:
    """An array of images, or of packed bits, as pixels uint8 (N, C, H, W); `path` names its file in errors.

    Raises:
        BadData: the shape is not one of images, or the values cannot be converted to grey values.
    """
    if array.dtype == np.uint8 and array.ndim == 2 and 8 * array.shape[1] == np.prod(image_shape):
        check_memory(path, 16 * array.nbytes)  # a byte for each bit, and a copy
        bits = np.unpackbits(array.astype(np.uint8), axis=1)
        return torch.from_numpy(bits * np.uint8(_ON)).view(-1, *image_shape)
    if not array.size:
        raise BadData(path, f"an array is {array.dtype} {array.shape}, which holds no values")
    is_images = array.ndim == 3 or (array.ndim == 4 and 1 <= array.shape[-1] <= 4)
    if not is_images:
        raise BadData(
            path, f"an array is {array.dtype} {array.shape}; expected (N, H, W), or (N, H, W, C) with C from 1 to 4"
        )
    try:
        values = to_uint8(array)
    except UnusablePicture as error:
        raise BadData(path, f"an array is {array.dtype} {array.shape}: {error}") from error
    if values.ndim == 3:
        values = values[..., np.newaxis]
    pixels = torch.from_numpy(values).permute(0, 3, 1, 2).contiguous()
    count, channels, height, width = pixels.shape
    if channels in (1, 3):
        return pixels
    opaque = np.empty((count, channels - 1, height, width), np.uint8)
    for row, image in zip(opaque, pixels.numpy(), strict=True):
        row[:] = picture_to_pixels(pixels_to_picture(image), (channels - 1, height, width), "none", background)
    return torch.from_numpy(opaque)
