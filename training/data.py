"""The images of a run: uint8 tensors in three splits, and their batches."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from model_store import DataSummary
from model_store.pictures import Resize, picture_to_pixels, pixels_to_picture

from .errors import BadData
from .recipe import Recipe
from .sources import read
from .sources.download import DEFAULT_CACHE, fetch


@dataclass(frozen=True)
class Dataset:
    """Pixels uint8 (N, C, H, W) to learn from, to choose the weights by, and to measure once at the end."""

    name: str
    train: Tensor
    validation: Tensor
    test: Tensor
    resize: Resize

    def summary(self) -> DataSummary:
        """What a card says of these images."""
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
        )


def load_dataset(
    recipe: Recipe, place: Path | None = None, *, cache: Path = DEFAULT_CACHE, strict: bool = False
) -> Dataset:
    """The images of a recipe: from `place` (a folder or an array file), else downloaded into `cache`.

    Raises:
        DataNotFound, BadData, DownloadFailed: as they say.
    """
    shape, resize = recipe.model.image_shape, recipe.data.resize
    source = fetch(recipe.data.source, cache) if place is None else place
    train, test = read(source, shape, resize, strict=strict)
    train = _fit(source, train, shape, resize)
    test = None if test is None else _fit(source, test, shape, resize)
    name = recipe.data.source if place is None else place.resolve().name
    return _divide(name, train, test, recipe)


def shuffled_batches(pixels: Tensor, batch_images: int, generator: torch.Generator) -> Iterator[Tensor]:
    """Every image once, in an order that the generator draws; the last batch may be smaller."""
    order = torch.randperm(len(pixels), generator=generator, device=generator.device).to(pixels.device)
    for indices in torch.split(order, batch_images):
        yield pixels[indices]


def _fit(source: Path, pixels: Tensor, shape: tuple[int, int, int], resize: Resize) -> Tensor:
    found = tuple(pixels.shape[1:])
    if found == shape:
        return pixels
    if resize == "none" and found[1:] != shape[1:]:
        raise BadData(source, f"images are {found} (C, H, W), the recipe takes {shape}; set data.resize=contain")
    return torch.stack([picture_to_pixels(pixels_to_picture(image), shape, resize) for image in pixels])


def _divide(name: str, train: Tensor, test: Tensor | None, recipe: Recipe) -> Dataset:
    """Three splits; which image goes where is drawn from the recipe's seed."""
    order = torch.randperm(len(train), generator=torch.Generator().manual_seed(recipe.seed))
    tests = 0 if test is not None else max(1, round(len(train) * recipe.data.test_fraction))
    validations = max(1, round(len(train) * recipe.data.validation_fraction))
    if len(train) <= tests + validations:
        raise BadData(name, f"{len(train)} images are too few to train on, to choose by and to test with")
    drawn_test, validation, rest = torch.split(order, [tests, validations, len(train) - tests - validations])
    return Dataset(
        name=name,
        train=train[rest],
        validation=train[validation],
        test=train[drawn_test] if test is None else test,
        resize=recipe.data.resize,
    )
