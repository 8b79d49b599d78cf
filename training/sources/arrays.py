"""Images in NumPy's files: uint8 (N, H, W), (N, H, W, 1) or (N, H, W, 3), or binary ones as packed bits (N, C·H·W/8).

An `.npy` holds one array; an `.npz` holds `images`, or `train` and `test`, or `x_train` and `x_test`. Images of a third
array, `valid`, join those to train on: which images choose the weights is drawn from the recipe's seed.
"""

from pathlib import Path
from zipfile import BadZipFile

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..errors import BadData

Shape = tuple[int, int, int]

_NAMES = (("images", None), ("train", "test"), ("x_train", "x_test"))
_ON = 255


def read_arrays(path: Path, image_shape: Shape) -> tuple[Tensor, Tensor | None]:
    """Training and test pixels, uint8 (N, C, H, W); the test pixels are None where the file has none.

    Only packed bits need to know the image's shape.

    Raises:
        BadData: it is no array file, or holds something else than uint8 images.
    """
    try:
        content = np.load(path, allow_pickle=False)
    except (OSError, ValueError, BadZipFile) as error:
        raise BadData(path, f"NumPy cannot read it ({error})") from error
    if isinstance(content, np.ndarray):
        return _pixels(path, content, image_shape), None
    with content:
        for train, test in _NAMES:
            if train in content:
                names = [name for name in (train, "valid") if name in content]
                pixels = torch.cat([_pixels(path, content[name], image_shape) for name in names])
                return pixels, _pixels(path, content[test], image_shape) if test in content else None
        raise BadData(path, f"it holds {', '.join(content)}; expected images, train and test, or x_train and x_test")


def _pixels(path: Path, array: NDArray[np.generic], image_shape: Shape) -> Tensor:
    if array.dtype == np.uint8 and array.ndim == 2 and 8 * array.shape[1] == np.prod(image_shape):
        bits = np.unpackbits(array.astype(np.uint8), axis=1)
        return torch.from_numpy(bits * np.uint8(_ON)).view(-1, *image_shape)
    is_images = array.ndim == 3 or (array.ndim == 4 and array.shape[-1] in (1, 3))
    if array.dtype != np.uint8 or not is_images or not array.size:
        raise BadData(path, f"an array is {array.dtype} {array.shape}; expected uint8 (N, H, W), (N, H, W, 1 or 3)")
    if array.ndim == 3:
        array = array[..., np.newaxis]
    return torch.from_numpy(array).permute(0, 3, 1, 2).contiguous()
