"""Training on a CUDA device; skipped on other machines."""

from pathlib import Path

import pytest
import torch

from training.data import load_dataset
from training.evaluate.bounds import score
from training.loop import start, train
from training.recipe import Recipe

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device here"),
]


def test_training_on_a_gpu_raises_the_bound(recipe: Recipe, idx_folder: Path) -> None:
    """Training runs in mixed precision, with the pixels on the device; the weights stay float32."""
    dataset = load_dataset(recipe, idx_folder)
    run = start(recipe, torch.device("cuda"))
    before = score(run.model, dataset.test).elbo_nats.mean()

    train(run, dataset, lambda _: None)

    assert score(run.averaged, dataset.test).elbo_nats.mean() > before + 10
    assert {parameter.dtype for parameter in run.averaged.parameters()} == {torch.float32}
