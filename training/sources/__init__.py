"""Sources of images: IDX files, arrays, folders of pictures, downloads. Each source gives uint8 pixels (N, C, H, W)."""

from pathlib import Path

from ..errors import BadData, DataNotFound
from ..recipe import DataRecipe
from . import arrays, folder, idx
from .splits import Splits


def read(place: Path, image_shape: tuple[int, int, int], rules: DataRecipe, *, strict: bool) -> Splits:
    """Read the images of a folder or an array file.

    Only the pictures of a folder are resized here, since each may have another size; other sources keep their size.

    Raises:
        DataNotFound: the place does not exist, or holds no images.
        BadData: the images of the place cannot be used.
    """
    if not place.exists():
        raise DataNotFound(place, "it does not exist")
    if place.suffix.lower() in (".npy", ".npz"):
        check_has_no_names(place, rules)
        return arrays.read_arrays(place, image_shape, rules.background)
    if not place.is_dir():
        raise BadData(place, "it is a file, but neither .npy nor .npz; name such a file, or a folder of pictures")
    if idx.find(place, idx.TRAIN):
        check_has_no_names(place, rules)
        return idx.read_family(place)
    return folder.read_folder(place, image_shape, rules, strict=strict)


def check_has_no_names(place: Path, rules: DataRecipe) -> None:
    """Check that the recipe does not ask for the names or the folders of images that have none.

    Raises:
        BadData: it does.
    """
    for key in ("validation", "groups"):
        if getattr(rules, key) is not None:
            raise BadData(place, f"data.{key} is for folders of pictures, and this place holds arrays; leave it out")
