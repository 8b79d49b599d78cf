"""A folder of pictures, at any depth and of any size.

A folder that has `train` and also `val` (or `valid`, `validation`) or `test` is divided by these subfolders. The recipe
may name another folder of validation pictures.
"""

from __future__ import annotations

import threading
import warnings
from collections import defaultdict
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from math import prod
from pathlib import Path
from typing import NamedTuple

import torch
from PIL import Image, UnidentifiedImageError
from torch import Tensor

from model_store.files import open_file
from model_store.free_memory import memory_shortage
from model_store.pictures import UnusablePicture, picture_to_pixels
from model_store.vae.pixels import inverted

from ..console import track, warn
from ..errors import HOW_TO_RESIZE, BadData, DataNotFound
from ..recipe import DataRecipe
from .download import DEFAULT_CACHE
from .groups import check_apart, groups_of
from .listing import is_hidden, list_pictures
from .mapped import PixelFile, cache_folder, check_disk, locked, pictures_at_once
from .memory import check_memory
from .splits import Splits

Shape = tuple[int, int, int]

# Named, because Pillow would otherwise try every format that it knows, and would start Ghostscript for EPS.
FORMATS = ("PNG", "JPEG", "WEBP", "AVIF", "GIF", "TIFF", "BMP", "DIB", "PPM", "JPEG2000")
SUFFIXES = frozenset(
    suffix for suffix, name in Image.registered_extensions().items() if name in FORMATS or name == "MPO"
)
_SPLITS = {
    "train": "train",
    "training": "train",
    "val": "validation",
    "valid": "validation",
    "validation": "validation",
    "test": "test",
    "testing": "test",
}
_MPO = "MPO"  # a phone's JPEG: one picture, followed by further pictures that count as frames
_NAMED = 20
_MAX_PIXELS = 2 * (Image.MAX_IMAGE_PIXELS or 0)  # Pillow refuses larger pictures
_SIZES = 3
_LARGE_PIXELS = 2**22
_BYTES_PER_PIXEL = 24  # of four channels, in the picture and in copies of it
_one_large_picture = threading.Lock()  # each of the threads has room for a small one


class Rows(NamedTuple):
    """Pixels uint8 (N, C, H, W), and the folder of the cache where they are, if they are mapped into memory."""

    pixels: Tensor
    folder: Path | None = None


class Pictures(NamedTuple):
    """Pixels uint8 (N, C, H, W), the path of each picture inside its folder with slashes, and the cache's folder."""

    pixels: Tensor
    names: list[str]
    folder: Path | None


class Misfit(NamedTuple):
    """A picture of another size than the recipe's, where the recipe does not resize."""

    path: Path
    height: int
    width: int


Skipped = Misfit | BadData


def read_folder(
    folder: Path, image_shape: Shape, rules: DataRecipe, *, strict: bool, cache: Path = DEFAULT_CACHE
) -> Splits:
    """Read the pictures in the order of their paths, resized to `image_shape`.

    A picture that cannot be used, or has another size where `resize` is `none`, is skipped with a warning. Pixels that
    do not fit into the memory are kept in the folder `cache`.

    Raises:
        BadData: a picture would be skipped and `strict` is true; every picture has another size; two subfolders are the
            same split; a group is in two splits.
        DataNotFound: no picture is left, or the recipe's validation folder is missing.
    """
    parts = split_folders(folder)
    named = None if rules.validation is None else folder / rules.validation
    if named is not None and not named.is_dir():
        raise DataNotFound(named, "data.validation names it, but it is not a folder inside the folder of --data")
    if "train" not in parts or (len(parts) == 1 and named is None):
        parts = {"train": folder}
    if named is not None:
        parts["validation"] = named
    if folder not in parts.values():
        _warn_of_others(folder, parts)
    read = {
        split: read_pictures(path, image_shape, rules, strict, cache, without=named) for split, path in parts.items()
    }
    groups = {}
    if rules.groups is not None:
        groups = groups_of(folder, {split: pictures.names for split, pictures in read.items()}, rules.groups)
        check_apart(folder, groups)
    pixels = {split: pictures.pixels for split, pictures in read.items()}
    return Splits(
        pixels["train"], pixels.get("validation"), pixels.get("test"), groups.get("train"), read["train"].folder
    )


def _warn_of_others(folder: Path, parts: dict[str, Path]) -> None:
    """Name the files and folders that are in none of the parts of a folder."""
    beside = sorted(path.name for path in folder.iterdir() if path not in parts.values() and not is_hidden(path.name))
    if beside:
        names = ", ".join(path.name for path in parts.values())
        warn(f"Left out of {folder}, because it is outside {names}: {', '.join(beside[:_NAMED])}.")


def split_folders(folder: Path) -> dict[str, Path]:
    """The subfolders that divide a folder, by the name of their split.

    Raises:
        BadData: two subfolders are the same split.
    """
    parts: dict[str, Path] = {}
    for path in sorted(folder.iterdir()):
        split = _SPLITS.get(path.name.lower())
        if split is None or not path.is_dir():
            continue
        if split in parts:
            raise BadData(folder, f"{parts[split].name} and {path.name} are the same split; rename one of them")
        parts[split] = path
    return parts


def read_pictures(
    folder: Path, image_shape: Shape, rules: DataRecipe, strict: bool, cache: Path, without: Path | None = None
) -> Pictures:
    """Read the pictures of a folder at any depth, in the order of their paths, as uint8 pixels (N, *image_shape).

    A picture that cannot be used is skipped with a warning. Pictures inside the folder `without` are left out, unless
    that is `folder` itself.

    Raises:
        BadData: a picture would be skipped and `strict` is true; every picture has another size.
        DataNotFound: no picture is left.
    """
    listing = list_pictures(folder, SUFFIXES, without)
    for line in listing.left_out():
        warn(f"Left out of {folder}: {line}.")
    paths = listing.pictures
    if not paths:
        raise DataNotFound(folder, f"it has no pictures ({', '.join(sorted(SUFFIXES))}) at any depth")
    rows, skipped = (
        read_into_file(folder, paths, image_shape, rules, cache)
        if memory_shortage(2 * len(paths) * prod(image_shape))  # each picture, and all of them in one tensor
        else read_into_memory(folder, paths, image_shape, rules)
    )
    report_skipped(folder, list(skipped.values()), len(paths), image_shape, strict=strict)
    if len(skipped) == len(paths):
        raise DataNotFound(folder, f"none of its {len(paths):,} pictures can be used")
    names = [path.relative_to(folder).as_posix() for index, path in enumerate(paths) if index not in skipped]
    return Pictures(rows.pixels, names, rows.folder)


def read_into_memory(
    folder: Path, paths: Sequence[Path], image_shape: Shape, rules: DataRecipe
) -> tuple[Rows, dict[int, Skipped]]:
    """The pixels of the pictures in memory, and the reasons why the others cannot be used, by their indices."""
    found = list(track(results_of(paths, image_shape, rules), len(paths), f"reading {folder.name}"))
    skipped = {index: result for index, result in enumerate(found) if not isinstance(result, Tensor)}
    usable = [result for result in found if isinstance(result, Tensor)]
    return Rows(torch.stack(usable) if usable else torch.empty((0, *image_shape), dtype=torch.uint8)), skipped


def read_into_file(
    folder: Path, paths: Sequence[Path], image_shape: Shape, rules: DataRecipe, cache: Path
) -> tuple[Rows, dict[int, Skipped]]:
    """The same in a file of the cache, mapped into memory. A run that was stopped while it read them goes on there.

    Raises:
        BadData: the cache has no room.
        OSError: the cache cannot be written.
    """
    place = cache_folder(cache, paths, image_shape, rules)
    warn(
        f"The {len(paths):,} pictures of {folder} do not fit into the memory; their pixels are kept in {place}, which "
        "you may delete after the last run."
    )
    with locked(place):
        file = PixelFile(place, image_shape)
        file.load()
        if unread := len(paths) - file.read:  # the rest, and all pictures again in the order of the splits
            check_disk(place, folder, (unread + len(paths)) * prod(image_shape))
        again = [paths[index] for index in file.skipped]  # for their reasons
        reasons = dict(zip(file.skipped, results_of(again, image_shape, rules), strict=True))
        rest = results_of(paths[file.read :], image_shape, rules)
        for index, result in enumerate(track(rest, len(paths) - file.read, f"reading {folder.name}"), file.read):
            if isinstance(result, Tensor):
                file.append(result)
            else:
                file.append(None)
                reasons[index] = result
        file.save()
    skipped = {
        index: BadData(paths[index], "it could not be read") if isinstance(reason, Tensor) else reason
        for index, reason in reasons.items()
    }
    return Rows(file.pixels(), place), skipped


def results_of(paths: Sequence[Path], image_shape: Shape, rules: DataRecipe) -> Iterator[Tensor | Skipped]:
    """Read pictures in several threads, and yield the results in order, of which few wait in memory."""
    with warnings.catch_warnings(), ThreadPoolExecutor() as pool:
        warnings.filterwarnings("ignore", module="PIL")  # broken metadata, which is not used here
        at_once = pictures_at_once(image_shape)
        for first in range(0, len(paths), at_once):
            some = paths[first : first + at_once]
            yield from pool.map(lambda path: read_picture(path, image_shape, rules), some)


def report_skipped(
    folder: Path, skipped: Sequence[Skipped], pictures: int, image_shape: Shape, *, strict: bool
) -> None:
    """Warn of pictures that were skipped, of which the first are named.

    Raises:
        BadData: a picture was skipped and `strict` is true, or every picture has another size.
    """
    broken = [result for result in skipped if isinstance(result, BadData)]
    misfits = [result for result in skipped if isinstance(result, Misfit)]
    problems = [*broken[:_NAMED], *([_wrong_sizes(folder, misfits, pictures, image_shape)] if misfits else [])]
    if problems and (strict or len(misfits) == pictures):
        raise problems[0]
    for problem in problems:
        warn(str(problem))
    if problems:
        count = f"Skipped {len(broken) + len(misfits):,} of {pictures:,} pictures"
        unnamed = f", {len(broken) - _NAMED:,} more than are named here" if len(broken) > _NAMED else ""
        warn(f"{count}{unnamed}; python -m training --strict stops at the first instead.")


def read_picture(path: Path, image_shape: Shape, rules: DataRecipe) -> Tensor | Misfit | BadData:
    """Read a picture as uint8 pixels of `image_shape`, or return the reason why it cannot be used."""
    pixels = decode_picture(path, image_shape, rules)
    if isinstance(pixels, BadData) or pixels.shape == image_shape:
        return pixels
    return Misfit(path, *pixels.shape[1:])


def decode_picture(path: Path, image_shape: Shape, rules: DataRecipe) -> Tensor | BadData:
    """Read a picture as uint8 pixels (C, H, W), resized and inverted by the rules, or the reason why it cannot be used.

    Where the rules do not resize, the picture keeps its size, and `image_shape` gives only the channels.
    """
    try:
        file = open_file(path)
    except OSError as error:
        return BadData(path, f"it is not a file, or is a link that leads nowhere ({error.strerror})")
    try:
        with file, Image.open(file, formats=FORMATS) as picture:
            if getattr(picture, "is_animated", False) and picture.format != _MPO:
                return BadData(path, "it has several frames; save each as a picture of its own")
            is_large = picture.width * picture.height > _LARGE_PIXELS
            with _one_large_picture if is_large else nullcontext():
                check_memory(path, _BYTES_PER_PIXEL * picture.width * picture.height)
                picture.load()
                pixels = torch.from_numpy(picture_to_pixels(picture, image_shape, rules.resize, rules.background))
                return inverted(pixels) if rules.invert else pixels
    except BadData as error:
        return error
    except Exception as error:  # Pillow raises many kinds of errors for broken files
        return BadData(path, _why_unreadable(error))


def _why_unreadable(error: Exception) -> str:
    if isinstance(error, UnusablePicture):
        return str(error)
    if isinstance(error, UnidentifiedImageError):
        return "its content is not a picture of a format that can be read"
    if isinstance(error, Image.DecompressionBombError):
        return f"it has more than {_MAX_PIXELS:,} pixels; save it smaller"
    return f"no picture can be read from it ({str(error) or type(error).__name__})"


def _wrong_sizes(folder: Path, misfits: list[Misfit], pictures: int, image_shape: Shape) -> BadData:
    """One error for all pictures of another size, with the most common sizes."""
    by_size: defaultdict[str, list[Path]] = defaultdict(list)
    for misfit in misfits:
        by_size[f"{misfit.height}×{misfit.width}"].append(misfit.path)
    sizes = sorted(by_size.items(), key=lambda item: -len(item[1]))
    found = [f"{len(paths):,} of {size}, such as {paths[0]}" for size, paths in sizes[:_SIZES]]
    more = f"; {len(sizes) - _SIZES:,} more sizes" if len(sizes) > _SIZES else ""
    return BadData(
        f"{len(misfits):,} of {pictures:,} pictures in {folder}",
        f"each has another size than the recipe's {image_shape[1]}×{image_shape[2]} (height × width): "
        f"{'; '.join(found)}{more}; {HOW_TO_RESIZE}",
    )
