"""`python -m benchmarks.training`: compare the speed of our training loop with other loops, an epoch of each in turn.

Same network, batch, threads and images. Ours also binarises each image anew, averages its weights and clips its
gradients, as a run does.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from statistics import median
from typing import IO, cast

import torch
from rich.console import Console

from training.recipe import read_recipe

from .. import environments, page
from ..machine import machine
from ..target import Target
from .protocol import IMAGES, Task

OURS, PLAIN, BARE, PYTHAE = "latentd", "plain", "bare", "pythae_trainer"
TITLES = {PLAIN: "plain loop", BARE: "bare step", PYTHAE: "Pythae"}
NOTE = (
    f"Median images/s over rounds, and our ratio to each in each round; an epoch is {IMAGES:,} images of noise. "
    "The plain loop is a DataLoader, Adam and the bound in torch's functions, in float32. The bare step is forward, "
    "backward and fused Adam on one batch again and again, in the row's precision; a loop passes it by chance only."
)


class Trainer:
    """A process that trains for one epoch at a time."""

    def __init__(self, name: str, task: Task) -> None:
        python = environments.python("pythae") if name == PYTHAE else Path(sys.executable)
        self._name, self._log = name, tempfile.TemporaryFile("w+")  # noqa: SIM115  # `close` closes it
        self._process = subprocess.Popen(
            [str(python), "-m", f"benchmarks.training.{name}", task.told()],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
            env={**os.environ, "PYTHONPATH": str(environments.ROOT), "PYTHONWARNINGS": "ignore"},
        )

    def epoch(self) -> float:
        """Train for an epoch; return the images/s.

        Raises:
            RuntimeError: the process has ended.
        """
        ask, answers = cast(IO[str], self._process.stdin), cast(IO[str], self._process.stdout)
        with suppress(BrokenPipeError):
            print(file=ask, flush=True)
        for line in answers:
            if line.startswith("images_per_s "):
                return float(line.split()[1])
        self._log.seek(0)
        raise RuntimeError(f"{self._name} ended before its epoch did: {environments.reason(self._log.read())}")

    def close(self) -> None:
        """End the process."""
        self._process.kill()
        self._process.wait()
        self._log.close()


def main() -> None:
    """Measure, print a table, and write it into the page that `--out` names."""
    options, console = _parser().parse_args(), Console(soft_wrap=True)
    peers, missed = _peers(options.pythae)
    rows, targets = [], []
    for name, overrides in _settings(options.recipes):
        task = _task(name, overrides, options)
        console.print(f"{name}, {task.precision}, {options.rounds} rounds")
        rates = measure(task, peers, options.rounds)
        rows.append([f"`{name}`, {task.precision}", *_cells(rates, peers)])
        targets += [] if overrides else [_target(task, rates)]
    head = ["recipe", "ours", *(cell for peer in peers for cell in (TITLES[peer], f"ours / {TITLES[peer]}"))]
    about = machine("python -m benchmarks.training") | {"device": _device(options)}
    tables = [
        page.Table("The run", ("", ""), list(about.items())),
        page.Table("Targets", ("target", "wanted", "found", ""), [target.cells() for target in targets]),
        page.Table("Images/s", head, rows, NOTE + missed),
    ]
    page.show(tables, console)
    if options.out:
        title = "Training" if options.device == "cpu" else "Training on a GPU"
        page.write(title, tables, options.out)


def _peers(is_pythae_asked: bool) -> tuple[list[str], str]:
    """The peers to measure, and a note for each peer that cannot be measured."""
    if not is_pythae_asked:
        return [PLAIN, BARE], ""
    try:
        environments.python("pythae")
    except environments.CannotInstall as error:
        return [PLAIN, BARE], f" Pythae is not measured: {error}."
    return [PLAIN, BARE, PYTHAE], ""


def _device(options: argparse.Namespace) -> str:
    name = torch.cuda.get_device_name() if options.device == "cuda" else "cpu"
    return f"{name}, {options.threads} threads"


def _target(task: Task, rates: dict[str, list[float]]) -> Target:
    """The targets: twice as fast as a plain loop on a CPU, nearly as fast as the bare step on a GPU."""
    peer, wanted = (PLAIN, 2.0) if task.device == "cpu" else (BARE, 0.9)
    name = f"{task.recipe}, {task.precision}: images/s over the {TITLES[peer]}'s"
    return Target(name, wanted, median(_ratios(rates, peer)), at_least=True)


def measure(task: Task, peers: Sequence[str], rounds: int) -> dict[str, list[float]]:
    """Images/s of our loop and the peers in each round, after a warm-up round that does not count."""
    names = [OURS, *peers]
    with _trainers(names, task) as trainers:
        epochs = [[trainer.epoch() for trainer in trainers] for _ in range(rounds + 1)][1:]
    return {name: list(column) for name, column in zip(names, zip(*epochs, strict=True), strict=True)}


@contextmanager
def _trainers(names: Sequence[str], task: Task) -> Iterator[list[Trainer]]:
    trainers = [Trainer(name, task) for name in names]
    try:
        yield trainers
    finally:
        for trainer in trainers:
            trainer.close()


def _settings(recipes: Sequence[str]) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Each recipe unchanged, and also in float32 if it has another precision, since the plain loop uses float32."""
    for name in recipes:
        yield name, ()
        if read_recipe(name).optimiser.precision != "float32":
            yield name, ("optimiser.precision=float32",)


def _task(name: str, overrides: tuple[str, ...], options: argparse.Namespace) -> Task:
    recipe = read_recipe(name, overrides)
    return Task(
        recipe=name,
        overrides=overrides,
        network=recipe.model.model_dump_json(),
        image_shape=recipe.model.image_shape,
        batch_images=recipe.optimiser.batch_images,
        precision=recipe.optimiser.precision,
        device=options.device,
        threads=options.threads,
        epochs=options.rounds + 1,
    )


def _cells(rates: dict[str, list[float]], peers: Sequence[str]) -> Iterator[str]:
    yield f"{median(rates[OURS]):,.0f}"
    for peer in peers:
        ratios = _ratios(rates, peer)
        yield f"{median(rates[peer]):,.0f}"
        yield f"{median(ratios):.2f} ({' '.join(f'{ratio:.2f}' for ratio in ratios)})"


def _ratios(rates: dict[str, list[float]], peer: str) -> list[float]:
    """The ratio of our images/s to a peer's, for each round."""
    return [ours / theirs for ours, theirs in zip(rates[OURS], rates[peer], strict=True)]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.training", description=__doc__)
    parser.add_argument(
        "--recipes", nargs="+", default=["mnist-mlp", "mnist"], help="recipes to train; default: %(default)s"
    )
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument(
        "--threads", type=int, default=os.cpu_count(), help="threads of each trainer; default: %(default)s"
    )
    parser.add_argument("--rounds", type=int, default=5, help="epochs of each trainer that count; default: %(default)s")
    parser.add_argument(
        "--pythae",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="also measure Pythae, in its own environment",
    )
    parser.add_argument(
        "--out", type=Path, metavar="FILE", help="the page to write the table into, such as docs/benchmarks.md"
    )
    return parser


if __name__ == "__main__":
    main()
