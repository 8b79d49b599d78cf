"""`python -m training.evaluate MODEL`: measure a stored model on images, each number with its protocol."""

from __future__ import annotations

from ..stopping import Stopped, leave_at_once, raise_stopped

if __name__ == "__main__":
    leave_at_once()  # before the slow imports below

import argparse
import dataclasses
from typing import get_args

from model_store import ModelVersion, Store, StoredModel, StoreError, tables
from model_store.files import read_file
from model_store.pictures import Resize
from model_store.vae.device import NoSuchDevice, choose_device

from .. import console
from ..arguments import add_places_and_device, at_least_one, path_argument
from ..devices import use_threads
from ..errors import BadRecipe, CannotPublish, TrainingError
from ..publish import prepare
from .any_size import DEFAULT_SIDE, report_any_size
from .figures import MAX_FIGURE_BYTES, figures
from .images import NAMES_NO_IMAGES, load_test
from .report import IMPORTANCE_SAMPLES, Report, report


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
        store.copy_calibrations(stored.version, store, version)
        return version
    except (StoreError, OSError) as error:
        raise CannotPublish(store.root, error) from error


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
    add_places_and_device(parser, store="the store of the model")
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
        "--threads", type=at_least_one, metavar="N", help="threads that compute on a CPU; default: one for each core"
    )
    return parser


if __name__ == "__main__":
    raise SystemExit(main())
