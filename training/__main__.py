"""`python -m training RECIPE`: train a variational autoencoder on images and publish it into the model store."""

from __future__ import annotations

from .stopping import Stopped, leave_at_once, raise_stopped

if __name__ == "__main__":
    leave_at_once()  # before the imports below, which take seconds: process 1 of a container would ignore SIGTERM

import argparse
import os
import shlex
from functools import partial
from pathlib import Path

from model_store import ModelVersion, Store, StoreError, store_folder
from model_store.vae.device import NoSuchDevice, choose_device

from . import checkpoint, console
from .data import Dataset, load_dataset
from .errors import CannotKeepRun, CannotPublish, NotText, RunNotFound, TrainingError, WrongRun
from .loop import Run, start, train
from .publish import git_commit, publish, published
from .recipe import SHELF, Recipe, read_recipe
from .sources.download import DATASETS, DEFAULT_CACHE
from .warm_start import pinned, warm_start

EXIT_FAILED = 1


def main(arguments: list[str] | None = None) -> int:
    """Run the command; the exit status is 0 when a version was published, 130 or 143 after a signal."""
    with raise_stopped():
        try:
            return _run(arguments)
        except Stopped as stopped:
            console.say("Stopped before the first epoch; nothing is kept.")
            return stopped.status
        except (TrainingError, StoreError, NoSuchDevice, OSError) as error:
            console.fail(str(error))
            return EXIT_FAILED


def _run(arguments: list[str] | None) -> int:
    parser = _parser()
    options = parser.parse_args(arguments)
    if (options.recipe is None) == (options.resume is None) or (options.resume and options.set):
        parser.error("name a recipe, with --set to change it, or a run with --resume, which keeps its own")
    for path in (options.data, options.store or store_folder(), options.runs, options.cache, options.resume):
        if path and not _is_text(path.absolute()):
            raise NotText(path)
    return _resume(options) if options.resume else _begin(options)


def _is_text(path: Path) -> bool:
    """Whether a path is UTF-8, as most are; Python holds other bytes of a name as lone surrogates."""
    try:
        return bool(str(path).encode())
    except UnicodeEncodeError:
        return False


def _begin(options: argparse.Namespace) -> int:
    store = Store(options.store or store_folder())
    recipe = pinned(read_recipe(options.recipe, options.set), store)
    _prepare(store, recipe)
    dataset = load_dataset(recipe, options.data, cache=options.cache or DEFAULT_CACHE, strict=options.strict)
    run = start(recipe, choose_device(options.device or "auto"))
    warm_start(run, store)
    description = checkpoint.RunDescription(
        recipe=recipe,
        data=_absolute(options.data),
        data_sha256=dataset.summary().sha256,
        git_commit=os.environ.get("GIT_COMMIT") or git_commit(),
        store=str(store.root.absolute()),
        cache=_absolute(options.cache),
        device=options.device or "auto",
        strict=options.strict,
    )
    folder = checkpoint.begin(options.runs, description, run.state())
    return _finish(run, dataset, store, folder, description)


def _resume(options: argparse.Namespace) -> int:
    folder = options.resume
    before = checkpoint.describe(folder)
    description = before.model_copy(update=_named_anew(options))
    store = Store(Path(description.store))
    run = start(description.recipe, choose_device(description.device))
    try:
        run.restore(checkpoint.load(folder, run.device))
    except (KeyError, RuntimeError, TypeError) as error:
        raise RunNotFound(folder, f"its checkpoint is of another release ({error})") from error
    if run.is_finished and (version := published(run, store)):
        console.say(f"The run in {folder} is finished: it is {version} in {store.folder(version)}.")
        return 0
    _prepare(store, description.recipe)
    data = Path(description.data) if description.data else None
    cache = Path(description.cache) if description.cache else DEFAULT_CACHE
    dataset = load_dataset(description.recipe, data, cache=cache, strict=description.strict)
    if (found := dataset.summary().sha256) != description.data_sha256:
        raise WrongRun(folder, expected=description.data_sha256, got=found)
    if description != before:
        checkpoint.write_description(folder, description)
    return _finish(run, dataset, store, folder, description)


def _named_anew(options: argparse.Namespace) -> dict[str, object]:
    """The flags that a resumed run was given; it remembers them in place of those that it was begun with."""
    named = {"data": _absolute(options.data), "store": _absolute(options.store), "cache": _absolute(options.cache)}
    named |= {"device": options.device, "strict": options.strict or None}
    return {name: value for name, value in named.items() if value is not None}


def _absolute(path: Path | None) -> str | None:
    return str(path.absolute()) if path else None


def _prepare(store: Store, recipe: Recipe) -> None:
    try:
        store.prepare(recipe.name)
    except OSError as error:
        raise CannotPublish(store.root, error) from error


def _finish(run: Run, dataset: Dataset, store: Store, folder: Path, description: checkpoint.RunDescription) -> int:
    _say_what_begins(run.recipe, dataset, run, folder)
    try:
        train(run, dataset, save=partial(checkpoint.save, folder))
        version = publish(run, dataset, store, description.git_commit)
    except Stopped as stopped:
        console.say(f"Stopped. {_how_to_go_on(run, folder)}")
        return stopped.status
    except (CannotKeepRun, CannotPublish, OSError) as error:
        console.fail(f"{str(error).rstrip('.')}. {_how_to_go_on(run, folder)}")
        return EXIT_FAILED
    _say_how_to_use(version, store)
    return 0


def _how_to_go_on(run: Run, folder: Path) -> str:
    command = shlex.join(["python", "-m", "training", "--resume", str(folder.absolute())])
    return f"The run is kept up to epoch {run.epochs_saved} of {run.recipe.epochs}. Go on with: {command}"


def _say_what_begins(recipe: Recipe, dataset: Dataset, run: Run, folder: Path) -> None:
    parameters = sum(parameter.numel() for parameter in run.model.parameters())
    console.say(
        f"{recipe.name}: {len(dataset.train):,} images of {dataset.name} to train on, "
        f"{len(dataset.validation):,} to choose by, {len(dataset.test):,} to test with; "
        f"{parameters:,} parameters on {run.device}; the run is kept in {folder}"
    )


def _say_how_to_use(version: ModelVersion, store: Store) -> None:
    card = store.card(version)
    first = card.metrics[0]
    place = "" if store.root == store_folder() else f" --store {shlex.quote(str(store.root))}"
    console.say(f"Published {version} in {store.folder(version)}: {first.name} {first.measurement}")
    console.say(f"  {first.protocol}")
    for warning in card.warnings:
        console.warn(f"Warning: {warning}")
    console.say(f"Serve it: python -m service{place}, then")
    question = "sample?n=16" if "sample" in card.model.can else "traverse"
    console.say(f"  curl 'localhost:8000/v1/models/{version.name}/{question}' -o images.png")


def _parser() -> argparse.ArgumentParser:
    recipes = ", ".join(sorted(file.stem for file in SHELF.glob("*.toml")))
    parser = argparse.ArgumentParser(
        prog="python -m training",
        description=__doc__,
        epilog="Ctrl-C or SIGTERM leaves a run that --resume continues as if it had never stopped, with the flags that "
        "it was begun with; other flags beside --resume replace them.",
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
        metavar="DIR",
        help=f"where to publish; without it LATENTD_STORE (now {store_folder()})".replace("%", "%%"),
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
    parser.add_argument("--device", help="auto (CUDA if there is one), cpu, cuda, cuda:1 (auto)")
    parser.add_argument(
        "--runs", type=Path, default=Path("runs"), metavar="DIR", help="where runs are kept (%(default)s)"
    )
    parser.add_argument("--cache", type=Path, metavar="DIR", help=f"for downloads ({DEFAULT_CACHE})")
    return parser


if __name__ == "__main__":
    raise SystemExit(main())
