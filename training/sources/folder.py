"""A folder of pictures, at any depth and of any size. Subfolders `train` and `test` divide it, where it has both."""

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

from model_store.pictures import Resize, picture_to_pixels

from ..errors import BadData, DataNotFound
from ..screen import track, warn

SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff"})


def read_folder(
    folder: Path, image_shape: tuple[int, int, int], resize: Resize, *, strict: bool
) -> tuple[Tensor, Tensor | None]:
    """Training and test pixels, uint8 (N, C, H, W), in the order of their paths and brought to `image_shape`.

    A picture that cannot be read, or has another size where `resize` is `none`, is named and skipped.

    Raises:
        BadData: such a picture, when `strict`.
        DataNotFound: no picture is left.
    """
    train, test = folder / "train", folder / "test"
    if not (train.is_dir() and test.is_dir()):
        return _read_all(folder, image_shape, resize, strict), None
    return _read_all(train, image_shape, resize, strict), _read_all(test, image_shape, resize, strict)


def _read_all(folder: Path, image_shape: tuple[int, int, int], resize: Resize, strict: bool) -> Tensor:
    paths = sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES)
    with ThreadPoolExecutor() as pool:
        results = pool.map(lambda path: _read(path, image_shape, resize), paths)
        pixels = list(_sound(track(results, len(paths), f"reading {folder.name}"), strict))
    if len(pixels) < len(paths):
        warn(f"Skipped {len(paths) - len(pixels)} of {len(paths)} pictures; --strict makes this an error.")
    if not pixels:
        raise DataNotFound(folder, f"it has no readable pictures ({', '.join(sorted(SUFFIXES))}) at any depth")
    return torch.stack(pixels)


def _read(path: Path, image_shape: tuple[int, int, int], resize: Resize) -> Tensor | BadData:
    try:
        with Image.open(path) as picture:
            picture.load()
    except Exception as error:  # whatever a broken file makes Pillow raise
        return BadData(path, f"no picture can be read from it ({error})")
    pixels = picture_to_pixels(picture, image_shape, resize)
    if tuple(pixels.shape) != image_shape:
        _, height, width = pixels.shape
        return BadData(
            path, f"it is {height}×{width}, the recipe takes {image_shape[1]}×{image_shape[2]}; set data.resize"
        )
    return pixels


def _sound(results: Iterable[Tensor | BadData], strict: bool) -> Iterable[Tensor]:
    for result in results:
        if isinstance(result, Tensor):
            yield result
        elif strict:
            raise result
        else:
            warn(str(result))
