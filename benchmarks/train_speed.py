"""`python -m benchmarks.train_speed --peer PYTHON`: images/s of our training loop and of Pythae's, in turn.

Same network, batch, thread count and number of images; both as their users start them. Ours also binarises each image
anew, averages its weights and clips its gradients; Pythae's loads its images through a DataLoader.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import IO, cast

import torch
from rich.console import Console
from rich.table import Table

from training.recipe import Recipe, read_recipe

ROOT = Path(__file__).parent.parent


class Trainer:
    """A process that trains for one epoch at a time."""

    def __init__(self, command: Sequence[str]) -> None:
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "ignore"}
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env=environment,
        )

    def epoch(self) -> float:
        """Let it train for an epoch; gives its images/s.

        Raises:
            RuntimeError: the process has ended.
        """
        ask, answers = cast(IO[str], self._process.stdin), cast(IO[str], self._process.stdout)
        print(file=ask, flush=True)
        for line in answers:
            if line.startswith("images_per_s "):
                return float(line.split()[1])
        raise RuntimeError(f"{self._process.args!r} ended before its epoch did")

    def close(self) -> None:
        """End it."""
        self._process.kill()
        self._process.wait()


def main() -> None:
    """Measure, and print a table."""
    options = _parser().parse_args()
    table = Table("recipe", "ours, images/s", "Pythae, images/s", "ratio of each round", "median ratio")
    for name in options.recipes:
        rounds = measure(read_recipe(name), options.peer, options.threads, options.rounds)
        ratios = [ours / theirs for ours, theirs in rounds]
        ours, theirs = (statistics.median(column) for column in zip(*rounds, strict=True))
        every = " ".join(f"{ratio:.2f}" for ratio in ratios)
        table.add_row(name, f"{ours:,.0f}", f"{theirs:,.0f}", every, f"{statistics.median(ratios):.2f}")
    Console().print(table, f"{options.threads} threads, torch {torch.__version__}, one epoch of 60,000 images a round")


def measure(recipe: Recipe, peer: Path, threads: int, rounds: int) -> list[tuple[float, float]]:
    """Images/s of both in each round, after one that is not counted."""
    epochs, batch = str(rounds + 1), str(recipe.optimiser.batch_images)
    ours = [sys.executable, "-m", "benchmarks.trainers.latentd", recipe.name, str(threads), epochs]
    module = "benchmarks.trainers.pythae_trainer"
    theirs = [str(peer), "-m", module, recipe.model.model_dump_json(), str(threads), epochs, batch]
    trainers = [Trainer(ours), Trainer(theirs)]
    try:
        return [(trainers[0].epoch(), trainers[1].epoch()) for _ in range(rounds + 1)][1:]
    finally:
        for trainer in trainers:
            trainer.close()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.train_speed", description=__doc__)
    parser.add_argument("--peer", type=Path, required=True, metavar="PYTHON", help="of an environment with Pythae")
    parser.add_argument("--recipes", nargs="+", default=["mnist-mlp", "mnist"], help="(%(default)s)")
    parser.add_argument("--threads", type=int, default=os.cpu_count(), help="of each trainer (%(default)s)")
    parser.add_argument("--rounds", type=int, default=3, help="epochs of each that count (%(default)s)")
    return parser


if __name__ == "__main__":
    main()
