"""The output of the commands: progress bars, a line for each epoch, warnings and errors.

A terminal shows the bars; a log file has only the lines.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from typing import TypeVar

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)
from torch import Tensor

from .epoch import Epoch

T = TypeVar("T")

_REFRESH_S = 0.5

# Rich takes a file for a terminal where FORCE_COLOR is set, as in many build systems; a log would hold its bars.
console = Console(highlight=False, soft_wrap=True, force_terminal=None if sys.stdout.isatty() else False)


def say(text: str, style: str | None = None) -> None:
    """Print a line. A log on a full disk, or a name that is not UTF-8, does not end the run."""
    with suppress(OSError):
        writable = text.encode(console.encoding, "backslashreplace").decode(console.encoding)
        console.print(writable, style=style, markup=False)


def warn(text: str) -> None:
    """Print a line about a problem that does not stop the command."""
    say(text, style="yellow")


def fail(text: str) -> None:
    """Print the reason why the command ends."""
    say(text, style="red")


def confirm(question: str) -> bool:
    """Ask a question on a terminal; without one, as in a pipe or a job, the answer is no."""
    if not (console.is_terminal and sys.stdin is not None and sys.stdin.isatty()):
        return False
    try:
        return console.input(f"{question} [y/N] ", markup=False).strip().lower() in {"y", "yes"}
    except (EOFError, OSError, UnicodeDecodeError):
        return False


def track(items: Iterable[T], total: int, what: str) -> Iterator[T]:
    """Yield the items and show a bar that moves with each item."""
    with _bar(BarColumn(), MofNCompleteColumn()) as bar:
        task = bar.add_task(what, total=total)
        for item in items:
            yield item
            bar.advance(task)


@contextmanager
def download_bar(name: str, total: int | None) -> Iterator[Callable[[int], None]]:
    """Show a bar for the duration of a download; the function moves it by some bytes."""
    with _bar(BarColumn(), MofNCompleteColumn()) as bar:
        task = bar.add_task(f"downloading {name}", total=total)
        yield partial(bar.advance, task)


@dataclass
class EpochBar:
    """The progress bar of one epoch.

    The bar reads a number from the device every half second only, since each read waits for an empty device queue.
    """

    progress: Progress
    task: TaskID
    measure: str
    began: float = field(default_factory=time.perf_counter)
    shown: float = 0.0
    images: int = 0

    def step(self, images: int, nats: Tensor) -> None:
        """Move the bar by a batch of `images`, whose mean objective is `nats` per image."""
        self.images += images
        now = time.perf_counter()
        if now - self.shown < _REFRESH_S:
            return
        self.shown = now
        speed = self.images / (now - self.began)
        note = f"{self.measure} {nats.item():8.2f} nats  {speed:7,.0f} images/s"
        self.progress.update(self.task, completed=self.images, note=note)


@contextmanager
def epoch_bar(number: int, epochs: int, images: int, measure: str) -> Iterator[EpochBar]:
    """Show a bar for the duration of an epoch."""
    with _bar(BarColumn(bar_width=30), TextColumn("{task.fields[note]}"), TimeRemainingColumn()) as progress:
        task = progress.add_task(f"epoch {number}/{epochs}", total=images, note="")
        yield EpochBar(progress, task, measure)


@contextmanager
def steps_bar(what: str, steps: int) -> Iterator[Callable[[int, str], None]]:
    """Show a bar for the duration of some steps; the function sets the number of the step and a note."""
    with _bar(BarColumn(bar_width=30), TextColumn("{task.fields[note]}"), TimeRemainingColumn()) as progress:
        task = progress.add_task(what, total=steps, note="")
        yield lambda step, note: progress.update(task, completed=step, note=note)


def epoch_line(epoch: Epoch, epochs: int, measure: str, *, best: bool) -> None:
    """Print the results of an epoch."""
    kl = "" if epoch.validation_kl_nats is None else f"  KL {epoch.validation_kl_nats:6.2f} nats"
    say(
        f"epoch {epoch.number:3}/{epochs}"
        f"  {measure} {epoch.train_nats:8.2f} train {epoch.validation_nats:8.2f} validation{kl}"
        f"  {epoch.images_per_s:7,.0f} images/s{'  best' if best else ''}"
    )


def _bar(*columns: ProgressColumn) -> Progress:
    text = TextColumn("{task.description}")
    return Progress(text, *columns, console=console, transient=True, disable=not console.is_terminal)
