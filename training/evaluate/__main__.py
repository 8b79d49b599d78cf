"""`python -m training.evaluate MODEL`: measure a stored model on images, each number with its protocol."""

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

from model_store import Card, ModelVersion, Store, StoredModel, StoreError, store_folder, tables
from model_store.files import read_file
from model_store.pictures import Resize
from model_store.vae.device import NoSuchDevice, choose_device
from model_store.vae.record import validation_messages

from .. import console
from ..arguments import at_least_one, path_argument
from ..data import Dataset, load_dataset, load_test_images
from ..devices import use_threads
from ..errors import BadData, BadRecipe, CannotPublish, TrainingError
from ..publish import prepare
from ..recipe import DataRecipe, Recipe
from ..sources.download import DEFAULT_CACHE
from .any_size import DEFAULT_SIDE, report_any_size
from .figures import MAX_FIGURE_BYTES, figures
from .report import IMPORTANCE_SAMPLES, Report, report

NAMES_NO_IMAGES = "it does not name images to measure the model on; name test images with --data"


def main(arguments: list[str] | None = None) -> int:
    """Run the command; the exit status is 0 when the model was measured, 130 or 143 after a signal."""
    options = argument_parser().parse_args(arguments)
    with raise_stopped():
        try:
            use_threads(options.threads)
            store = Store(options.store)
            stored = store.load(store.resolve(options.model))
            if options.publish:
                prepare(store, stored.version.name)
            found = measure(stored, options)
            console.console.print(f"{stored.version}\n", tables.metrics(found.metrics))
            for warning in found.warnings:
                console.warn(f"Warning: {warning}")
            if options.publish:
                is_whole = options.images is None and not options.other_data
                version = publish_measured(store, stored, found, is_whole=is_whole)
                console.say(f"Published {version} in {store.folder(version)}.")
        except Stopped as stopped:
            console.say("Stopped; nothing is measured.")
            return stopped.status
        except (TrainingError, StoreError, NoSuchDevice, OSError) as error:
            console.fail(str(error))
            return 1
    return 0


def measure(stored: StoredModel, options: argparse.Namespace) -> Report:
    """Measure a stored model of any family as the options say.

    Raises:
        BadRecipe, BadData, DataNotFound, DownloadFailed: there are no images to measure it on.
        NoSuchDevice: the machine does not have the device.
        NotFinite: a number of the model is infinite or NaN.
    """
    device = choose_device(options.device)
    if stored.card.model.takes_any_size:
        if options.data is None:
            raise BadRecipe("of the card", NAMES_NO_IMAGES)
        model = stored.model.float().to(device)
        return report_any_size(model, options.data, side=options.side, most=options.images)
    dataset = load_test(stored.card, options.data, options.cache, options.resize, is_other=options.other_data)
    first = dataclasses.replace(dataset, test=dataset.test[: options.images])
    found = report(stored.vae.to(device), first, options.importance_samples)
    if not options.publish:
        return found
    return dataclasses.replace(found, files=figures(stored.vae.cpu(), first.test))


def publish_measured(store: Store, stored: StoredModel, found: Report, *, is_whole: bool) -> ModelVersion:
    """Publish the weights of a version again, as a new version with these numbers and figures beside its others.

    A number replaces the card's number of the same name, and a figure the figure of the same name. The summary of the
    latents and the quantiles of scores replace the card's if the measurement `is_whole`: of all test images of the
    model's own data. The calibrations of the version are copied.

    Raises:
        CannotPublish: the store cannot be written.
    """
    card, folder = stored.card, store.folder(stored.version)
    keeps_own = not is_whole and (card.scores is not None or found.scores is None)  # scores depend on the latents
    first, second = (card, found) if keeps_own else (found, card)
    metrics = {metric.name: metric for metric in (*card.metrics, *found.metrics)}
    try:
        kept = {path.name: read_file(path, MAX_FIGURE_BYTES) for path in sorted(folder.glob("[!._]*.png"))}
        calibrations = {name: store.calibration(stored.version, name) for name in store.calibrations(stored.version)}
        original = store.load(stored.version)  # the measured one may have another precision, and be on another device
        version = store.publish(
            stored.version.name,
            original.model,
            source=card.source,
            preview=card.preview,
            training=card.training,
            fit=card.fit,
            metrics=tuple(metrics.values()),
            latents=first.latents or second.latents,
            scores=first.scores or second.scores,
            warnings=tuple(dict.fromkeys((*card.warnings, *found.warnings))),
            files={**kept, **found.files},
        )
        for name, calibration in calibrations.items():
            store.add_calibration(version, name, calibration)
        return version
    except (StoreError, OSError) as error:
        raise CannotPublish(store.root, error) from error


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
        help="for a model that was not trained here, or with --other-data: how to bring images to the model's size",
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
    parser.add_argument(
        "--other-data",
        action="store_true",
        help="for a model that was trained here: measure it on the images of --data, though it was trained on others",
    )
    parser.add_argument(
        "--side",
        type=at_least_one,
        default=DEFAULT_SIDE,
        metavar="PIXELS",
        help="for a model of any size: pictures are cropped to sides of at most this; default: %(default)s",
    )
    parser.add_argument(
        "--publish",
        action="store_true",
        help="publish the weights as a new version, whose card and folder also have these numbers and figures",
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
