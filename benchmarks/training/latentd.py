"""Our own loop, as `python -m training` runs it: `python -m benchmarks.training.latentd TASK`."""

from __future__ import annotations

import torch

from training import console
from training.data import Dataset
from training.loop import Run, start, train
from training.recipe import read_recipe

from . import protocol


def main() -> None:
    """Train on random images."""
    task = protocol.task()
    console.console.quiet = True
    recipe = read_recipe(task.recipe, [*task.overrides, f"epochs={task.epochs}"])
    images = protocol.pixels(task.image_shape)
    run = start(recipe, torch.device(task.device))
    protocol.wait_for_turn()
    train(run, Dataset("noise", images, images[:1], images[:1], "none"), lambda _: _next(run))


def _next(run: Run) -> None:
    protocol.report(run.history[-1].images_per_s)
    protocol.wait_for_turn()


if __name__ == "__main__":
    main()
