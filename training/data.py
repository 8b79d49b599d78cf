"""The images of a run: uint8 tensors in three splits, and shuffled batches of them."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from model_store import DataSummary
from model_store.pictures import Background, Resize
from model_store.vae.sentences import counted

from .errors import BadData, DataNotFound, NotText
from .recipe import DataRecipe, Recipe
from .sources import read
from .sources.download import DATASETS, DEFAULT_CACHE, fetch
from .sources.groups import draw_groups
from .sources.mapped import rows_of
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
            digest.update(np.ascontiguousarray(split.numpy()).data)  # not its bytes: it may not fit into the memory
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
    splits = read(place, recipe.model.image_shape, recipe.data, strict=strict, cache=cache or DEFAULT_CACHE)
    return divide(name, splits, recipe)


def load_test_images(
    place: Path, image_shape: tuple[int, int, int], rules: DataRecipe, cache: Path = DEFAULT_CACHE
) -> Dataset:
    """Read images to test a model that was not trained on them: the test images of the place, or all images.

    Raises:
        DataNotFound, BadData: the place has no such images.
    """
    splits = read(place, image_shape, rules, strict=False, cache=cache)
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


def divide(name: str, splits: Splits, recipe: Recipe) -> Dataset:
    """Make the three splits. If the source lacks a split, the recipe's seed draws its images, or its groups.

    Raises:
        BadData: the training images or their groups are too few to divide, or the cache has no room for the splits.
        OSError: the cache cannot be written.
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

    def drawn(indices: Tensor, split: str) -> Tensor:
        return rows_of(name, splits.train, indices, splits.folder, split)

    return Dataset(
        name=name,
        train=drawn(rest, "train"),
        validation=drawn(drawn_validation, "validation") if splits.validation is None else splits.validation,
        test=drawn(drawn_test, "test") if splits.test is None else splits.test,
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
