"""Our own loop: `python -m benchmarks.trainers.latentd RECIPE THREADS EPOCHS`."""

from __future__ import annotations

import sys
from typing import Any

import torch

from training import screen
from training.data import Dataset
from training.loop import Run, start, train
from training.recipe import read_recipe

from . import protocol


def main(name: str, threads: int, epochs: int) -> None:
    """Train a recipe on random images, an epoch for each line of input, as `python -m training` would."""
    torch.set_num_threads(threads)
    screen.console.quiet = True
    recipe = read_recipe(name, [f"epochs={epochs}"])
    images = protocol.pixels(recipe.model.image_shape)
    run = start(recipe, torch.device("cpu"))
    protocol.wait_for_turn()
    train(run, Dataset("random", images, images[:1], images[:1], "none"), lambda _: _next(run))


def _next(run: Run, **_: Any) -> None:
    protocol.report(run.history[-1].images_per_s)
    protocol.wait_for_turn()


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
