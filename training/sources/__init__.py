"""Sources of images: IDX files, arrays, folders of pictures, downloads. Each source gives uint8 pixels (N, C, H, W)."""

from math import prod
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from model_store.pictures import picture_to_pixels, pixels_to_picture
from model_store.vae.pixels import inverted

from ..errors import HOW_TO_RESIZE, BadData, DataNotFound
from ..recipe import DataRecipe
from . import arrays, folder, idx
from .download import DEFAULT_CACHE
from .memory import check_memory
from .splits import Splits


def read(
    place: Path,
    image_shape: tuple[int, int, int],
    rules: DataRecipe,
    *,
    strict: bool,
    cache: Path = DEFAULT_CACHE,
) -> Splits:
    """Read the images of a folder or an array file, brought to `image_shape` (C, H, W) and inverted by the rules.

    Pictures that do not fit into the memory are kept in the folder `cache`.

    Raises:
        DataNotFound: the place does not exist, or holds no images.
        BadData: the images cannot be used, or have another size and the rules do not resize.
        OSError: the cache cannot be written.
    """
    found = read_arrays(place, image_shape, rules)
    if found is None:
        return folder.read_folder(place, image_shape, rules, strict=strict, cache=cache)
    train, validation, test = (
        None if pixels is None else fitted(place, pixels, image_shape, rules)
        for pixels in (found.train, found.validation, found.test)
    )
    return Splits(found.train if train is None else train, validation, test)


def read_arrays(place: Path, image_shape: tuple[int, int, int], rules: DataRecipe) -> Splits | None:
    """Read the images of an array file or of IDX files, which keep their size; None for a folder of pictures.

    Raises:
        DataNotFound: the place does not exist.
        BadData: the images cannot be used, or the rules need the names of pictures.
    """
    if not place.exists():
        raise DataNotFound(place, "it does not exist")
    is_array = place.suffix.lower() in (".npy", ".npz")
    if not is_array and not place.is_dir():
        raise BadData(place, "it is a file, but neither .npy nor .npz; name such a file, or a folder of pictures")
    if not is_array and not idx.find(place, idx.TRAIN):
        return None
    for key in ("validation", "groups"):
        if getattr(rules, key) is not None:
            raise BadData(place, f"data.{key} is for folders of pictures, and this place holds arrays; leave it out")
    return arrays.read_arrays(place, image_shape, rules.background) if is_array else idx.read_family(place)


def fitted(place: Path, pixels: Tensor, shape: tuple[int, int, int], rules: DataRecipe) -> Tensor:
    """Uint8 pixels (N, C, H, W) of an array, brought to `shape` (C, H, W), and inverted where the rules say so.

    Raises:
        BadData: they have another size and the rules do not resize, or do not fit into the memory.
    """
    if pixels.shape[1:] != shape:
        if rules.resize == "none" and pixels.shape[2:] != shape[1:]:
            found = tuple(pixels.shape[1:])
            raise BadData(place, f"its images are {found} (C, H, W), but the model takes {shape}; {HOW_TO_RESIZE}")
        check_memory(place, 2 * len(pixels) * prod(shape))  # each image, and all of them in one tensor
        pictures = map(pixels_to_picture, pixels.numpy())
        rows = [picture_to_pixels(picture, shape, rules.resize, rules.background) for picture in pictures]
        pixels = torch.from_numpy(np.stack(rows))
    return inverted(pixels) if rules.invert else pixels
