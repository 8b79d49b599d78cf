"""Where images come from: IDX files, arrays, folders of pictures, downloads. Each gives uint8 pixels (N, C, H, W)."""

from pathlib import Path

from torch import Tensor

from model_store.pictures import Resize

from ..errors import DataNotFound
from . import arrays, folder, idx


def read(
    place: Path, image_shape: tuple[int, int, int], resize: Resize, *, strict: bool
) -> tuple[Tensor, Tensor | None]:
    """Training pixels, and test pixels or None where the data has no test set of its own.

    Only a folder of pictures is brought to size here, since its pictures may differ; other sources keep theirs.

    Raises:
        DataNotFound: nothing there that could be images.
        BadData: something there that is not what it seems.
    """
    if place.suffix in (".npy", ".npz"):
        return arrays.read_arrays(place, image_shape)
    if not place.is_dir():
        raise DataNotFound(place, "it is neither a folder nor an .npy or .npz file")
    if idx.find(place, idx.TRAIN):
        return idx.read_family(place)
    return folder.read_folder(place, image_shape, resize, strict=strict)
