"""`python -m training RECIPE`: train an autoencoder on images and publish it into the model store."""

from __future__ import annotations

from .stopping import Stopped, leave_at_once, raise_stopped

if __name__ == "__main__":
    leave_at_once()  # before the imports below, which take seconds: process 1 of a container would ignore SIGTERM

import argparse
import os
import shlex
import uuid
from functools import partial
from pathlib import Path

from model_store import ModelVersion, Store, StoreError, store_folder
from model_store.vae.device import NoSuchDevice, choose_device
from model_store.weights import count_parameters

from . import checkpoint, console
from .arguments import at_least_one, hours_argument, path_argument
from .data import Dataset, absolute_text, load_dataset
from .devices import use_threads
from .errors import CannotKeepRun, CannotPublish, DataNotFound, RunNotFound, TrainingError, WrongRun
from .loop import Run, start, take_best, train
from .publish import git_commit, prepare, publish, published
from .recipe import SHIPPED, read_recipe
from .sources.download import DATASETS, DEFAULT_CACHE, fetch
from .suitability import likelihood_warning
from .warm_start import pinned, warm_start

EXIT_FAILED = 1


def main(arguments: list[str] | None = None) -> int:
    """Run the command; the exit status is 0 when a version was published, 128 and the number after a signal."""
    parser = argument_parser()
    options = parser.parse_args(arguments)
    if (options.recipe is None) == (options.resume is None) or (options.resume and options.set):
        parser.error("name a recipe, with --set to change it, or a run with --resume, which keeps its own recipe")
    if options.download and options.resume:
        parser.error("--download takes a recipe, not a run")
    with raise_stopped():
        try:
            if options.download:
                return download(options)
            return resume(options) if options.resume else begin(options)
        except Stopped as stopped:
            console.say(
                f"Stopped; the run in {options.resume} is unchanged."
                if options.resume
                else "Stopped before the first epoch; nothing is kept."
            )
            return stopped.status
        except (TrainingError, StoreError, NoSuchDevice, OSError) as error:
            console.fail(str(error))
            return EXIT_FAILED


def download(options: argparse.Namespace) -> int:
    """Download the data set of a recipe into the cache, for a training without a network."""
    recipe = read_recipe(options.recipe, options.set)
    if recipe.data.source is None:
        raise DataNotFound("the recipe", f"it has no data.source to download, such as {' or '.join(DATASETS)}")
    console.say(f"{recipe.data.source} is in {fetch(recipe.data.source, options.cache or DEFAULT_CACHE)}")
    return 0


def begin(options: argparse.Namespace) -> int:
    """Begin a run: read the recipe and the images, draw the weights, and make the folder that keeps the run."""
    store = Store(options.store or store_folder())
    named = {"data": options.data, "store": store.root, "cache": options.cache, "runs": options.runs}
    places = {name: path and absolute_text(path) for name, path in named.items()}
    use_threads(options.threads)
    recipe = pinned(read_recipe(options.recipe, options.set), store)
    prepare(store, recipe.name)
    dataset = load_dataset(recipe, options.data, cache=options.cache, strict=options.strict)
    run = start(recipe, choose_device(options.device or "auto"))
    warm_start(run, store)
    description = checkpoint.RunDescription(
        id=uuid.uuid4().hex,
        recipe=recipe,
        data=places["data"],
        data_sha256=dataset.summary().sha256,
        git_commit=os.environ.get("GIT_COMMIT") or git_commit(),
        store=places["store"],
        cache=places["cache"],
        device=options.device or "auto",
        strict=options.strict,
        threads=options.threads,
        hours=options.hours,
    )
    folder = checkpoint.begin(options.runs, description, run.state())
    return finish(run, dataset, store, folder, description)


def resume(options: argparse.Namespace) -> int:
    """Continue a run from its last whole epoch; flags that are given now replace the remembered ones."""
    folder = options.resume
    absolute_text(folder)
    before = checkpoint.describe(folder)
    flags = {name: value for name, value in vars(options).items() if value}
    given = {name: absolute_text(flags[name]) for name in flags.keys() & {"data", "store", "cache"}}
    given |= {name: flags[name] for name in flags.keys() & {"device", "strict", "threads", "hours"}}
    description = before.model_copy(update=given)
    recipe, store = description.recipe, Store(Path(description.store))
    use_threads(description.threads)
    run = start(recipe, choose_device(description.device))
    try:
        run.restore(checkpoint.load(folder, run.device))
    except (AttributeError, KeyError, RuntimeError, TypeError, ValueError) as error:
        raise RunNotFound(folder, f"its checkpoint is of another release ({error})") from error
    if (ending := why_ended(run, description)) and (version := published(run, store, publication(run, before))):
        console.say(f"The run in {folder} is {ending}: it is {version} in {store.folder(version)}.")
        return 0
    prepare(store, recipe.name)
    data, cache = (Path(text) if text else None for text in (description.data, description.cache))
    dataset = load_dataset(recipe, data, cache=cache, strict=description.strict)
    if (found := dataset.summary().sha256) != description.data_sha256:
        raise WrongRun(folder, expected=description.data_sha256, got=found)
    if description != before:
        checkpoint.write_description(folder, description)
    return finish(run, dataset, store, folder, description)


def finish(run: Run, dataset: Dataset, store: Store, folder: Path, description: checkpoint.RunDescription) -> int:
    """Train to the end of the run and publish.

    After a stop, name the kept files and the command to continue. After Ctrl-C, publish the best epoch if the user
    wants it.
    """
    console.say(
        f"{run.recipe.name}: {len(dataset.train):,} images of {dataset.name} to train on, "
        f"{len(dataset.validation):,} to choose the weights by, {len(dataset.test):,} to test with; "
        f"{count_parameters(run.model):,} parameters on {run.device}; the run is kept in {folder}"
    )
    if warning := likelihood_warning(run.recipe.model, dataset.train):
        console.warn(f"Warning: {warning}")
    try:
        try:
            train(run, dataset, save=partial(checkpoint.save, folder), hours=description.hours)
        except Stopped as stopped:
            console.say(f"Stopped. {how_to_continue(run, folder)}")
            if not wants_best(run, stopped):
                return stopped.status
            take_best(run, dataset)
        else:
            if (epochs := len(run.history)) < run.recipe.epochs:
                console.say(
                    f"The run is {why_ended(run, description)}. Its learning rate has not fallen to zero; a new run "
                    f"with --set epochs={epochs} takes the same time, and its learning rate falls."
                )
        version = publish(run, dataset, store, commit=description.git_commit, name=publication(run, description))
        announce(version, store)
    except Stopped as stopped:
        console.say(f"Stopped. {how_to_continue(run, folder)}")
        return stopped.status
    except (CannotKeepRun, CannotPublish, OSError) as error:
        console.fail(f"{str(error).rstrip('.')}. {how_to_continue(run, folder)}")
        return EXIT_FAILED
    return 0


def wants_best(run: Run, stopped: Stopped) -> bool:
    """After Ctrl-C on a terminal, ask whether to publish the best epoch so far."""
    has_best = 0 < run.best_epoch <= run.epochs_saved
    question = f"Publish the weights of epoch {run.best_epoch}, the best so far, as a version?"
    return stopped.is_by_hand and has_best and console.confirm(question)


def why_ended(run: Run, description: checkpoint.RunDescription) -> str | None:
    """The reason why a run trains no further epoch, to follow "the run is"; None if it trains one."""
    epochs = len(run.history)
    if epochs >= run.recipe.epochs:
        return "finished"
    if run.is_finished:
        return f"finished after epoch {epochs} of {run.recipe.epochs}: {run.recipe.patience} epochs were not better"
    if not run.has_time(description.hours):
        return f"at the end of its {description.hours:g} hours, at epoch {epochs} of {run.recipe.epochs}"
    return None


def publication(run: Run, description: checkpoint.RunDescription) -> str | None:
    """The name under which a run is published once; a run that can go on has one for each epoch."""
    if run.is_finished or description.id is None:
        return description.id
    return f"{description.id}-{len(run.history)}"


def how_to_continue(run: Run, folder: Path) -> str:
    """Two sentences for the user: the last epoch that was saved, and the command that continues the run."""
    command = shlex.join(["python", "-m", "training", "--resume", str(folder.absolute())])
    return f"The run is kept up to epoch {run.epochs_saved} of {run.recipe.epochs}. Continue it with: {command}"


def announce(version: ModelVersion, store: Store) -> None:
    """Print a new version's folder, its first metric, its warnings, and the commands that serve and try it."""
    card = store.card(version)
    first = card.metrics[0]
    place = "" if store.root == store_folder() else f" --store {shlex.quote(str(store.root))}"
    console.say(f"Published {version} in {store.folder(version)}: {first.name} {first.measurement}")
    console.say(f"  {first.protocol}")
    for warning in card.warnings:
        console.warn(f"Warning: {warning}")
    console.say(f"Serve it: python -m service{place}, then")
    operation = "sample?n=16" if "sample" in card.model.can else "traverse"
    console.say(f"  curl 'localhost:8000/v1/models/{version.name}/{operation}' -o images.png")


def argument_parser() -> argparse.ArgumentParser:
    """The parser of the command's arguments; its help names the shipped recipes and the store in use."""
    parser = argparse.ArgumentParser(
        prog="python -m training",
        description=__doc__,
        epilog="Ctrl-C or SIGTERM stops a run; on a terminal, Ctrl-C offers to publish the best epoch so far. "
        "--resume continues a run and gives the same model as a run that was never stopped. The run remembers its "
        "flags; a flag that is given beside --resume replaces the remembered one.",
    )
    parser.add_argument("recipe", nargs="?", help=f"one of {', '.join(SHIPPED)}, or the path of a TOML file")
    parser.add_argument(
        "--data",
        type=path_argument,
        metavar="PATH",
        help="images to train on: a folder of pictures or of IDX files, an .npy or .npz file; "
        f"by default the recipe's data set ({' or '.join(DATASETS)}) is downloaded",
    )
    parser.add_argument(
        "--store",
        type=store_folder,
        metavar="DIR",
        help=f"the store to publish into; default: LATENTD_STORE, now {store_folder()}".replace("%", "%%"),
    )
    parser.add_argument(
        "--set",
        nargs="+",
        action="extend",
        default=[],
        metavar="KEY=VALUE",
        help="change values of the recipe, for example: --set epochs=3 optimiser.learning_rate=1e-4",
    )
    parser.add_argument(
        "--resume", type=path_argument, metavar="RUN", help="continue the run in this folder from its last whole epoch"
    )
    parser.add_argument(
        "--strict", action="store_true", help="stop at the first picture that cannot be used, instead of skipping it"
    )
    parser.add_argument("--device", help="auto (CUDA if there is a GPU), cpu, cuda or cuda:N; default: auto")
    parser.add_argument(
        "--threads", type=at_least_one, metavar="N", help="threads that compute on a CPU; default: one for each core"
    )
    parser.add_argument(
        "--hours",
        type=hours_argument,
        metavar="H",
        help="end the run and publish its best epoch before an epoch that would end later than this; the time of "
        "sessions before --resume counts",
    )
    parser.add_argument(
        "--runs",
        type=path_argument,
        default=Path("runs"),
        metavar="DIR",
        help="the folder to keep runs in; default: %(default)s",
    )
    parser.add_argument(
        "--download",
        action="store_true",
        help="only download the recipe's data set into the cache; a training without a network then finds it there",
    )
    parser.add_argument(
        "--cache",
        type=path_argument,
        metavar="DIR",
        help=f"the folder to keep downloads, and pixels that do not fit into the memory; default: {DEFAULT_CACHE}",
    )
    return parser


if __name__ == "__main__":
    raise SystemExit(main())
