"""The images of a run: uint8 tensors in three splits, and shuffled batches of them."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from math import prod
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from model_store import DataSummary
from model_store.pictures import Background, Resize, picture_to_pixels, pixels_to_picture
from model_store.vae.pixels import inverted
from model_store.vae.sentences import counted

from .errors import HOW_TO_RESIZE, BadData, DataNotFound, NotText
from .recipe import DataRecipe, Recipe
from .sources import read
from .sources.download import DATASETS, DEFAULT_CACHE, fetch
from .sources.groups import draw_groups
from .sources.memory import check_memory
from .sources.splits import Splits


@dataclass(frozen=True)
class Dataset:
    """Pixels uint8 (N, C, H, W) in three splits: for training, to choose the weights, and for the final test."""

    name: str
    train: Tensor
    validation: Tensor
    test: Tensor
    resize: Resize
    background: Background = "black"
    is_inverted: bool = False

    def summary(self) -> DataSummary:
        """Summarise the images for a card."""
        digest = hashlib.sha256()
        for split in (self.train, self.validation, self.test):
            digest.update(split.numpy().tobytes())
        return DataSummary(
            name=self.name,
            train_images=len(self.train),
            validation_images=len(self.validation),
            test_images=len(self.test),
            sha256=digest.hexdigest(),
            resize=self.resize,
            background=self.background,
            invert=self.is_inverted,
        )


def load_dataset(
    recipe: Recipe, place: Path | None = None, *, cache: Path | None = None, strict: bool = False
) -> Dataset:
    """Read the images of a recipe from `place` (a folder or an array file), or download them into `cache`.

    Raises:
        DataNotFound, DownloadFailed: there are no images.
        BadData: the images cannot be used.
        NotText: the path of the images is not UTF-8.
    """
    if place is not None:
        name = place_name(place)
    elif recipe.data.source is not None:
        name, place = recipe.data.source, fetch(recipe.data.source, cache or DEFAULT_CACHE)
    else:
        known = " or ".join(DATASETS)
        raise DataNotFound("the recipe", f"it has no data.source to download ({known}); name images with --data")
    splits = read_splits(place, recipe.model.image_shape, recipe.data, strict=strict)
    return divide(name, splits, recipe)


def load_test_images(place: Path, image_shape: tuple[int, int, int], rules: DataRecipe) -> Dataset:
    """Read images to test a model that was not trained on them: the test images of the place, or all images.

    Raises:
        DataNotFound, BadData: the place has no such images.
    """
    splits = read_splits(place, image_shape, rules, strict=False)
    none = splits.train[:0]
    return Dataset(
        name=place_name(place),
        train=none,
        validation=none,
        test=splits.train if splits.test is None else splits.test,
        resize=rules.resize,
        background=rules.background,
        is_inverted=rules.invert,
    )


def read_splits(place: Path, shape: tuple[int, int, int], rules: DataRecipe, *, strict: bool) -> Splits:
    """Read the images of a place, bring all of them to `shape` (C, H, W), and invert them where the rules say so.

    Raises:
        DataNotFound: the place has no images.
        BadData: the images cannot be used, or have another size and `resize` is `none`.
    """
    splits = read(place, shape, rules, strict=strict)
    fitted = {
        split: _fit(place, pixels, shape, rules)
        for split in ("train", "validation", "test")
        if (pixels := getattr(splits, split)) is not None
    }
    return dataclasses.replace(splits, **fitted)


def _fit(place: Path, pixels: Tensor, shape: tuple[int, int, int], rules: DataRecipe) -> Tensor:
    if pixels.shape[1:] != shape:
        if rules.resize == "none" and pixels.shape[2:] != shape[1:]:
            found = tuple(pixels.shape[1:])
            raise BadData(place, f"its images are {found} (C, H, W), but the model takes {shape}; {HOW_TO_RESIZE}")
        check_memory(place, 2 * len(pixels) * prod(shape))  # each image, and all of them in one tensor
        pictures = map(pixels_to_picture, pixels.numpy())
        rows = [picture_to_pixels(picture, shape, rules.resize, rules.background) for picture in pictures]
        pixels = torch.from_numpy(np.stack(rows))
    return inverted(pixels) if rules.invert else pixels


def divide(name: str, splits: Splits, recipe: Recipe) -> Dataset:
    """Make the three splits. If the source lacks a split, the recipe's seed draws its images, or its groups.

    Raises:
        BadData: the training images or their groups are too few to divide.
    """
    count = len(splits.train)
    generator = torch.Generator().manual_seed(recipe.seed)
    tests = 0 if splits.test is not None else max(1, round(count * recipe.data.test_fraction))
    validations = 0 if splits.validation is not None else max(1, round(count * recipe.data.validation_fraction))
    if count <= tests + validations:
        raise BadData(
            name,
            f"it has {counted(count, 'images')}, too few to train on, to choose the weights by, and to test with",
        )
    if splits.groups is None:
        order = torch.randperm(count, generator=generator)
        drawn_test, drawn_validation, rest = torch.split(order, [tests, validations, count - tests - validations])
    else:
        drawn_test, drawn_validation, rest = draw_groups(name, splits.groups, [tests, validations], generator)
    return Dataset(
        name=name,
        train=splits.train[rest],
        validation=splits.train[drawn_validation] if splits.validation is None else splits.validation,
        test=splits.train[drawn_test] if splits.test is None else splits.test,
        resize=recipe.data.resize,
        background=recipe.data.background,
        is_inverted=recipe.data.invert,
    )


def shuffled_batches(pixels: Tensor, batch_images: int, generator: torch.Generator) -> Iterator[Tensor]:
    """Yield every image once, in an order that the generator draws; the last batch may be smaller."""
    order = torch.randperm(len(pixels), generator=generator, device=generator.device).to(pixels.device)
    for indices in torch.split(order, batch_images):
        yield pixels[indices]


def flipped(pixels: Tensor, generator: torch.Generator) -> Tensor:
    """Pixels (B, C, H, W), of which each image is mirrored left to right with a probability of a half."""
    is_mirrored = torch.rand(len(pixels), generator=generator, device=pixels.device) < 0.5
    return torch.where(is_mirrored.view(-1, 1, 1, 1), pixels.flip(-1), pixels)


def absolute_text(path: Path) -> str:
    """The absolute path as text, which a run or a card can hold.

    Raises:
        NotText: the path is not UTF-8. Python holds the other bytes of such a name as lone surrogates.
    """
    text = str(path.absolute())
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise NotText(path.absolute()) from error
    return text


def place_name(place: Path) -> str:
    """The name of a place, for the card. A link has the name of the folder that it leads to.

    Raises:
        NotText: the path is not UTF-8.
    """
    path = place.resolve()
    absolute_text(path)
    return path.name
