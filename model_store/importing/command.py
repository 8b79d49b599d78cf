"""`python -m model_store import`: read a source, try the model, publish it, and print the measured numbers."""

from __future__ import annotations

import argparse
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TextColumn

from .. import tables
from ..card import MAX_LICENCE_CHARACTERS
from ..store import Store
from ..version import ModelVersion, check_name
from .candidate import Candidate, Wishes
from .sources import read_source
from .trial import Trial, machine, try_model
from .trial_pictures import TrialPictures, generated_picture, pictures_of

SIGNALS = (signal.SIGINT, signal.SIGTERM)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command to its parser."""
    parser.add_argument(
        "source",
        help="a folder of diffusers, a folder with a pair of TAESD files or one of the two, or a repository of Hugging "
        "Face: owner/name, owner/name:subfolder, owner/name@revision",
    )
    parser.add_argument("--name", required=True, help="the name of the model in the store")
    parser.add_argument("--licence", type=licence, metavar="TEXT", help="its licence (default: the file LICENSE)")
    parser.add_argument(
        "--latent-space",
        metavar="NAME",
        help="the latents that it understands, such as sdxl (default: as the source tells, else the name of the model)",
    )
    parser.add_argument(
        "--preview",
        metavar="NAME",
        type=check_name,
        help="a small model of the same latent space, which decodes previews: decode?quality=preview",
    )
    parser.add_argument(
        "--pictures", type=Path, metavar="DIR", help="pictures to try it on (default: one generated picture)"
    )


def licence(text: str) -> str:
    """The text, if a card can hold it.

    Raises:
        ArgumentTypeError: it is empty, or too long.
    """
    if not 0 < len(text) <= MAX_LICENCE_CHARACTERS:
        raise argparse.ArgumentTypeError(f"it must have 1 to {MAX_LICENCE_CHARACTERS:,} characters")
    return text


def run(store: Store, console: Console, options: argparse.Namespace) -> int:
    """Import a model. A signal ends the command with its status, and nothing half-made stays in the store."""
    try:
        with _signals_raise():
            import_model(store, console, options)
    except _Stopped as stopped:
        console.print("Stopped.")
        return stopped.status
    return 0


def import_model(store: Store, console: Console, options: argparse.Namespace) -> ModelVersion:
    """Read, try and publish a model, and print what was measured.

    Raises:
        StoreError: the source or the store is not sound, or the name is taken.
    """
    wishes = Wishes(check_name(options.name), options.latent_space, options.licence)
    with _progress(console) as progress:
        task = progress.add_task(f"reading {options.source}", total=None)
        candidate = read_source(
            options.source, wishes, lambda there, total: progress.update(task, completed=there, total=total)
        )
        pictures = _pictures(candidate, options.pictures)
        store.prepare(wishes.name)  # a store that cannot be written is found before the trial, which can take minutes
        progress.update(task, description="trying it on pictures", total=2 * len(pictures.pixels), completed=0)
        trial = try_model(candidate.model, pictures, lambda: progress.advance(task))
        progress.update(task, description="publishing", total=None)
        version = store.publish(
            wishes.name,
            candidate.model,
            source=candidate.source,
            preview=options.preview,
            metrics=trial.metrics,
            warnings=trial.warnings,
        )
    _report(console, version, candidate, trial, pictures)
    return version


def _pictures(candidate: Candidate, folder: Path | None) -> TrialPictures:
    return generated_picture(candidate.config) if folder is None else pictures_of(folder, candidate.config)


def _report(
    console: Console, version: ModelVersion, candidate: Candidate, trial: Trial, pictures: TrialPictures
) -> None:
    """Print the version, the measured numbers, and a request for the new model."""
    console.print(f"[green]✓[/green] [bold]{version}[/bold]  latent space {escape(candidate.config.latent_space)}")
    for note in (*candidate.notes, *trial.warnings):
        console.print(note, style="yellow", markup=False, soft_wrap=True)
    console.print("", tables.measurements(trial.metrics), sep="\n")
    words = f"Measured with {machine()} on {pictures.words}."
    console.print(words, style="dim", markup=False, soft_wrap=True)
    console.print("\nStart the service on this store, and try it with a picture of your own:")
    path = f"localhost:8000/v1/models/{version.name}/reconstruct"
    curl = f"  curl --data-binary @photo.png -H 'Content-Type: image/png' {path} -o reconstruction.png"
    console.print(curl, markup=False, soft_wrap=True)


def _progress(console: Console) -> Progress:
    columns = TextColumn("{task.description}", markup=False), BarColumn()
    return Progress(*columns, console=console, transient=True, disable=not console.is_terminal)


class _Stopped(KeyboardInterrupt):
    """A signal asked the command to end. Like KeyboardInterrupt, it passes `except Exception`."""

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.status = 128 + number


@contextmanager
def _signals_raise() -> Iterator[None]:
    """In this block a signal raises _Stopped, so that unfinished folders are removed on the way out."""

    def stop(number: int, _: object) -> None:
        raise _Stopped(number)

    before = {number: signal.getsignal(number) for number in SIGNALS}
    try:
        for number, handler in before.items():
            if handler is not signal.SIG_IGN:
                signal.signal(number, stop)
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
