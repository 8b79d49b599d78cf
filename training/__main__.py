"""`python -m training RECIPE`: train a variational autoencoder on images and publish it into the model store."""

from __future__ import annotations

import argparse
import os
from functools import partial
from pathlib import Path

from model_store import ModelVersion, Store, StoreError, store_folder
from model_store.vae.device import NoSuchDevice, choose_device

from . import checkpoint, screen
from .data import Dataset, load_dataset
from .errors import RunNotFound, TrainingError, WrongRun
from .loop import Run, start, train
from .publish import git_commit, publish
from .recipe import SHELF, Recipe, read_recipe
from .sources.download import DATASETS, DEFAULT_CACHE
from .warm_start import pinned, warm_start

EXIT_FAILED = 1
EXIT_STOPPED = 130  # what a shell reports of a command that Ctrl-C ended


def main(arguments: list[str] | None = None) -> int:
    """Run the command; the exit status is 0 when a version was published."""
    parser = _parser()
    options = parser.parse_args(arguments)
    if (options.recipe is None) == (options.resume is None) or (options.resume and options.set):
        parser.error("name a recipe, with --set to change it, or a run with --resume, which keeps its own")
    try:
        return _resume(options) if options.resume else _begin(options)
    except (TrainingError, StoreError, NoSuchDevice, OSError) as error:
        screen.fail(str(error))
        return EXIT_FAILED


def _begin(options: argparse.Namespace) -> int:
    store = Store(options.store)
    recipe = pinned(read_recipe(options.recipe, options.set), store)
    dataset = load_dataset(recipe, options.data, cache=options.cache, strict=options.strict)
    run = start(recipe, choose_device(options.device))
    warm_start(run, store)
    folder = checkpoint.begin(
        options.runs,
        checkpoint.RunDescription(
            recipe=recipe,
            data=str(options.data.resolve()) if options.data else None,
            data_sha256=dataset.summary().sha256,
            git_commit=os.environ.get("GIT_COMMIT") or git_commit(),
        ),
    )
    checkpoint.save(folder, run.state())
    return _finish(run, dataset, folder, options)


def _resume(options: argparse.Namespace) -> int:
    folder = options.resume
    description = checkpoint.describe(folder)
    place = options.data or (Path(description.data) if description.data else None)
    dataset = load_dataset(description.recipe, place, cache=options.cache, strict=options.strict)
    if (found := dataset.summary().sha256) != description.data_sha256:
        raise WrongRun(folder, expected=description.data_sha256, got=found)
    run = start(description.recipe, choose_device(options.device))
    try:
        run.restore(checkpoint.load(folder, run.device))
    except (KeyError, RuntimeError, TypeError) as error:
        raise RunNotFound(folder, f"its checkpoint is of another release ({error})") from error
    return _finish(run, dataset, folder, options)


def _finish(run: Run, dataset: Dataset, folder: Path, options: argparse.Namespace) -> int:
    store = Store(options.store)
    store.prepare(run.recipe.name)
    _say_what_begins(run.recipe, dataset, run, folder)
    go_on = f"Go on with: python -m training --resume {folder}"
    try:
        train(run, dataset, save=partial(checkpoint.save, folder))
        version = publish(run, dataset, store, checkpoint.describe(folder).git_commit)
    except KeyboardInterrupt:
        screen.say(f"Stopped after epoch {len(run.history)}. {go_on}")
        return EXIT_STOPPED
    except (StoreError, OSError):
        screen.fail(f"The run is kept, but could not be published. {go_on} --store DIR")
        raise
    _say_how_to_use(version, store)
    return 0


def _say_what_begins(recipe: Recipe, dataset: Dataset, run: Run, folder: Path) -> None:
    parameters = sum(parameter.numel() for parameter in run.model.parameters())
    screen.say(
        f"{recipe.name}: {len(dataset.train):,} images of {dataset.name} to train on, "
        f"{len(dataset.validation):,} to choose by, {len(dataset.test):,} to test with; "
        f"{parameters:,} parameters on {run.device}; the run is kept in {folder}"
    )


def _say_how_to_use(version: ModelVersion, store: Store) -> None:
    card = store.card(version)
    first = card.metrics[0]
    place = "" if store.root == store_folder() else f" --store {store.root}"
    screen.say(f"Published {version} in {store.folder(version)}: {first.name} {first.value:.5g} {first.unit}")
    screen.say(f"  {first.protocol}")
    screen.say(f"Serve it: python -m service{place}, then")
    question = "traverse" if card.model.posterior == "point" else "sample?n=16"
    screen.say(f"  curl 'localhost:8000/v1/models/{version.name}/{question}' -o images.png")


def _parser() -> argparse.ArgumentParser:
    recipes = ", ".join(sorted(file.stem for file in SHELF.glob("*.toml")))
    parser = argparse.ArgumentParser(
        prog="python -m training",
        description=__doc__,
        epilog="Ctrl-C leaves a run that --resume continues as if it had never stopped.",
    )
    parser.add_argument("recipe", nargs="?", help=f"one of {recipes}, or the path of a TOML file")
    parser.add_argument(
        "--data",
        type=Path,
        metavar="DIR",
        help="images: IDX files, a folder of pictures, an .npy or .npz file; "
        f"without it the recipe's data set ({', '.join(DATASETS)}) is downloaded",
    )
    parser.add_argument(
        "--store",
        type=store_folder,
        default=store_folder(),
        metavar="DIR",
        help="where to publish; without it LATENTD_STORE (now %(default)s)",
    )
    parser.add_argument(
        "--set",
        nargs="+",
        action="extend",
        default=[],
        metavar="KEY=VALUE",
        help="change the recipe, for example: --set epochs=3 optimiser.learning_rate=1e-4",
    )
    parser.add_argument("--resume", type=Path, metavar="RUN", help="go on with a run, from the last whole epoch")
    parser.add_argument("--strict", action="store_true", help="stop at a picture that cannot be read; else skip it")
    parser.add_argument("--device", default="auto", help="auto (CUDA if there is one), cpu, cuda, cuda:1 (%(default)s)")
    parser.add_argument(
        "--runs", type=Path, default=Path("runs"), metavar="DIR", help="where runs are kept (%(default)s)"
    )
    parser.add_argument("--cache", type=Path, default=DEFAULT_CACHE, metavar="DIR", help="for downloads (%(default)s)")
    return parser


if __name__ == "__main__":
    raise SystemExit(main())
