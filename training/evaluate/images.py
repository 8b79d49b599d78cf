"""The images that a stored model is measured on: the test images of its training, or the images of another place."""

from __future__ import annotations

import json
from pathlib import Path

from pydantic import ValidationError

from model_store import Card
from model_store.pictures import Resize
from model_store.vae.record import validation_messages

from ..data import Dataset, load_dataset, load_test_images
from ..errors import BadData, BadRecipe
from ..recipe import DataRecipe, Recipe
from ..sources.download import DEFAULT_CACHE

NAMES_NO_IMAGES = "it does not name images to measure the model on; name test images with --data"


def load_test(
    card: Card,
    place: Path | None,
    cache: Path = DEFAULT_CACHE,
    resize: Resize | None = None,
    *,
    is_other: bool = False,
) -> Dataset:
    """Read the images to measure a model on.

    The card of a model that was trained here has a recipe: its images are read and divided as they were for the
    training. For another model, or if `is_other`, take the test images of `place`, or all of its images.

    Raises:
        BadRecipe: the card has no recipe and `place` is None, or the recipe is of another release.
        BadData: the images are not the ones that the card names, or cannot be used.
        DataNotFound, DownloadFailed: there are no images.
    """
    if card.training is None or is_other:
        if place is None:
            raise BadRecipe("of the card", NAMES_NO_IMAGES)
        rules = DataRecipe(resize=resize or "none", background=card.background, invert=card.is_inverted)
        return load_test_images(place, card.model.example_shape, rules, cache)
    if resize is not None:
        raise BadRecipe("of the card", "the recipe itself has data.resize; leave out --resize")
    try:
        recipe = Recipe.model_validate_json(json.dumps(card.training.recipe))
    except ValidationError as error:
        raise BadRecipe("of the card", f"it is of another release ({validation_messages(error, Recipe)[0]})") from error
    dataset = load_dataset(recipe, place, cache=cache)
    if dataset.summary().sha256 != card.training.data.sha256:
        trained_on = card.training.data.name
        raise BadData(
            dataset.name,
            f"the model was trained on other images ({trained_on}); name those with --data, or measure it on these "
            "with --other-data",
        )
    return dataset
