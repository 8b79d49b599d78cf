"""`python -m training.evaluate MODEL`: measure a stored model on test images, each number with its protocol."""

from __future__ import annotations

from ..stopping import Stopped, leave_at_once, raise_stopped

if __name__ == "__main__":
    leave_at_once()  # before the slow imports below

import argparse
import dataclasses
import json
from pathlib import Path
from typing import get_args

from pydantic import ValidationError

from model_store import Card, Store, StoreError, store_folder, tables
from model_store.pictures import Resize
from model_store.vae.device import NoSuchDevice, choose_device
from model_store.vae.record import validation_messages

from .. import console
from ..arguments import at_least_one, path_argument
from ..data import Dataset, load_dataset, load_test_images
from ..devices import use_threads
from ..errors import BadData, BadRecipe, TrainingError
from ..recipe import Recipe
from ..sources.download import DEFAULT_CACHE
from .report import IMPORTANCE_SAMPLES, report


def main(arguments: list[str] | None = None) -> int:
    """Run the command; the exit status is 0 when the model was measured, 130 or 143 after a signal."""
    options = argument_parser().parse_args(arguments)
    with raise_stopped():
        try:
            use_threads(options.threads)
            store = Store(options.store)
            stored = store.load(store.resolve(options.model))
            dataset = load_test(stored.card, options.data, options.cache, options.resize)
            first = dataclasses.replace(dataset, test=dataset.test[: options.images])
            model = stored.vae.to(choose_device(options.device))
            found = report(model, first, options.importance_samples)
        except Stopped as stopped:
            console.say("Stopped; nothing is measured.")
            return stopped.status
        except (TrainingError, StoreError, NoSuchDevice, OSError) as error:
            console.fail(str(error))
            return 1
    console.console.print(f"{stored.version}\n", tables.metrics(found.metrics))
    for warning in found.warnings:
        console.warn(f"Warning: {warning}")
    return 0


def load_test(card: Card, place: Path | None, cache: Path = DEFAULT_CACHE, resize: Resize | None = None) -> Dataset:
    """Read the images to measure a model on.

    The card of a model that was trained here has a recipe: its images are read and divided as they were for the
    training. For another model, take the test images of `place`, or all of its images.

    Raises:
        BadRecipe: the card has no recipe and `place` is None, or the recipe is of another release.
        BadData: the images are not the ones that the card names, or cannot be used.
        DataNotFound, DownloadFailed: there are no images.
    """
    if card.training is None:
        if place is None:
            raise BadRecipe(
                "of the card", "the card has no recipe, so it names no images; name test images with --data"
            )
        return load_test_images(place, card.model.example_shape, resize or "none")
    if resize is not None:
        raise BadRecipe("of the card", "the recipe itself has data.resize; leave out --resize")
    try:
        recipe = Recipe.model_validate_json(json.dumps(card.training.recipe))
    except ValidationError as error:
        raise BadRecipe("of the card", f"it is of another release ({validation_messages(error, Recipe)[0]})") from error
    dataset = load_dataset(recipe, place, cache=cache)
    if dataset.summary().sha256 != card.training.data.sha256:
        trained_on = card.training.data.name
        raise BadData(dataset.name, f"the model was trained on other images ({trained_on}); name those with --data")
    return dataset


def argument_parser() -> argparse.ArgumentParser:
    """The parser of the command's arguments; its help names the store in use."""
    parser = argparse.ArgumentParser(prog="python -m training.evaluate", description=__doc__)
    parser.add_argument("model", help="a model's name, for its newest version, name@version or name@alias")
    parser.add_argument(
        "--data",
        type=path_argument,
        metavar="PATH",
        help="images to measure on, as in training; by default the recipe's data set is downloaded",
    )
    parser.add_argument(
        "--resize",
        choices=get_args(Resize),
        help="for a model that was not trained here: how to bring images of another size to the model's size",
    )
    parser.add_argument(
        "--store",
        type=store_folder,
        default=store_folder(),
        metavar="DIR",
        help="the store of the model; default: LATENTD_STORE, now %(default)s",
    )
    parser.add_argument(
        "--importance-samples",
        type=at_least_one,
        default=IMPORTANCE_SAMPLES,
        metavar="K",
        help="posterior draws of each image for the importance-weighted bound; papers use 5000; default: %(default)s",
    )
    parser.add_argument("--images", type=at_least_one, metavar="N", help="measure the first N test images only")
    parser.add_argument(
        "--device", default="auto", help="auto (CUDA if there is a GPU), cpu, cuda or cuda:N; default: auto"
    )
    parser.add_argument(
        "--threads", type=at_least_one, metavar="N", help="threads that compute on a CPU; default: one for each core"
    )
    parser.add_argument(
        "--cache",
        type=path_argument,
        default=DEFAULT_CACHE,
        metavar="DIR",
        help="the folder to keep downloads in; default: %(default)s",
    )
    return parser


if __name__ == "__main__":
    raise SystemExit(main())
