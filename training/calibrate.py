"""`python -m training.calibrate MODEL --data PATH --name NAME`: measure normal images, so that others can be compared.

The quantiles of their scores are written beside the version in the store. Running services take them up within seconds,
and `score?calibration=NAME` compares with them; `default` is the name that needs no such parameter.
"""

from __future__ import annotations

from .stopping import Stopped, leave_at_once, raise_stopped

if __name__ == "__main__":
    leave_at_once()  # before the slow imports below

import argparse
from datetime import UTC, datetime
from pathlib import Path
from typing import cast, get_args

from model_store import Calibration, Card, Store, StoreError
from model_store.card import MOST_LATENT_VALUES
from model_store.pictures import Resize
from model_store.vae import VAE
from model_store.vae.device import NoSuchDevice, choose_device
from model_store.vae.sentences import counted

from . import console
from .arguments import add_places_and_device, at_least_one, path_argument
from .data import Dataset
from .errors import CannotMeasure, TrainingError
from .evaluate.images import load_test
from .evaluate.latents import latent_use
from .evaluate.report import tested_images
from .evaluate.statistics import scored

FEW_IMAGES = 100  # with fewer, the first percentile is a single image


def main(arguments: list[str] | None = None) -> int:
    """Run the command; the exit status is 0 when the calibration was written, 130 or 143 after a signal."""
    options = argument_parser().parse_args(arguments)
    with raise_stopped():
        try:
            store = Store(options.store)
            version = store.resolve(options.model)
            stored = store.load(version)
            if (lack := stored.card.model.lacks("score")) is not None:
                raise CannotMeasure(version, *lack)
            store.check_calibration(version, options.name)
            dataset = normal_images(stored.card, options.data, options.resize, options.cache)
            model = stored.vae.to(choose_device(options.device))
            found = calibration(model, dataset, stored.card.weights.sha256, options.importance_samples)
            file = store.add_calibration(version, options.name, found)
        except Stopped as stopped:
            console.say("Stopped; no calibration is written.")
            return stopped.status
        except (TrainingError, StoreError, NoSuchDevice, OSError) as error:
            console.fail(str(error))
            return 1
    if found.images < FEW_IMAGES:
        images = counted(found.images, "images")
        console.warn(f"Warning: the first percentile of {images} is hardly known; use {FEW_IMAGES} or more.")
    console.say(f"{version} has the calibration {options.name}: {found.scores.protocol}.\n{file}")
    parameter = "" if options.name == "default" else f"calibration={options.name}&"
    console.say(
        f"curl --data-binary @picture.png -H 'Content-Type: image/png' "
        f"'localhost:8000/v1/models/{version}/score?{parameter}threshold=q01'"
    )
    return 0


def normal_images(card: Card, place: Path | None, resize: Resize | None, cache: Path) -> Dataset:
    """The images of a place, which count as normal; without a place the test images of the model's recipe.

    Raises:
        BadRecipe: the card has no recipe, and no place is given.
        DataNotFound, BadData, DownloadFailed: there are no images, or they cannot be used.
    """
    if place is None:
        return load_test(card, None, cache, resize)
    as_trained = cast("Resize", card.training.data.resize) if card.training else "none"
    return load_test(card, place, cache, resize or as_trained, is_other=True)


def calibration(model: VAE, dataset: Dataset, weights_sha256: str, draws: int = 1) -> Calibration:
    """The calibration of a model by the test images of a data set, which count as normal.

    Raises:
        NotFinite: a score is infinite or NaN.
    """
    use = latent_use(model, dataset.test)
    latents = use.summary() if len(use.mean) <= MOST_LATENT_VALUES else None
    return Calibration(
        created=datetime.now(UTC),
        weights_sha256=weights_sha256,
        data=dataset.name,
        images=len(dataset.test),
        draws=draws,
        scores=scored(model, dataset.test, latents, draws).quantiles(tested_images(dataset)),
        latents=latents,
    )


def argument_parser() -> argparse.ArgumentParser:
    """The parser of the command's arguments; its help names the store in use."""
    parser = argparse.ArgumentParser(prog="python -m training.calibrate", description=__doc__)
    parser.add_argument("model", help="a model's name, for its newest version, name@version or name@alias")
    parser.add_argument(
        "--data",
        type=path_argument,
        metavar="PATH",
        help="normal images, as in training: a folder of pictures or an array; default: the recipe's test images",
    )
    parser.add_argument("--name", required=True, help="of the calibration, such as line-3; default needs no parameter")
    parser.add_argument(
        "--importance-samples",
        type=at_least_one,
        default=1,
        metavar="K",
        help="posterior draws of each image; clients that compare should ask for as many; default: %(default)s",
    )
    parser.add_argument(
        "--resize", choices=get_args(Resize), help="for images of another size; default: as in training"
    )
    add_places_and_device(parser, store="the store of the model")
    return parser


if __name__ == "__main__":
    raise SystemExit(main())
