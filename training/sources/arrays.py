"""Images in NumPy's files: uint8 (N, H, W), (N, H, W, 1) or (N, H, W, 3).

An `.npy` holds one array; an `.npz` holds `images`, or `train` and `test`, or `x_train` and `x_test`.
"""

from pathlib import Path
from zipfile import BadZipFile

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..errors import BadData

_NAMES = (("images", None), ("train", "test"), ("x_train", "x_test"))


def read_arrays(path: Path) -> tuple[Tensor, Tensor | None]:
    """Training and test pixels, uint8 (N, C, H, W); the test pixels are None where the file has none.

    Raises:
        BadData: it is no array file, or holds something else than uint8 images.
    """
    try:
        content = np.load(path, allow_pickle=False)
    except (OSError, ValueError, BadZipFile) as error:
        raise BadData(path, f"NumPy cannot read it ({error})") from error
    if isinstance(content, np.ndarray):
        return _pixels(path, content), None
    with content:
        for train, test in _NAMES:
            if train in content:
                return _pixels(path, content[train]), _pixels(path, content[test]) if test in content else None
        raise BadData(path, f"it holds {', '.join(content)}; expected images, train and test, or x_train and x_test")


def _pixels(path: Path, array: NDArray[np.generic]) -> Tensor:
    is_images = array.ndim == 3 or (array.ndim == 4 and array.shape[-1] in (1, 3))
    if array.dtype != np.uint8 or not is_images or not array.size:
        raise BadData(path, f"an array is {array.dtype} {array.shape}; expected uint8 (N, H, W), (N, H, W, 1 or 3)")
    if array.ndim == 3:
        array = array[..., np.newaxis]
    return torch.from_numpy(array).permute(0, 3, 1, 2).contiguous()
