"""Training learns, can be repeated, and gives the same model after a stop."""

from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch

from model_store import VAE
from training import checkpoint, loop, objective
from training.data import Dataset, load_dataset
from training.errors import Diverged, RunNotFound
from training.evaluate.bounds import score
from training.loop import Run, learning_rate, start, train
from training.objective import ObjectiveRecipe, kl_weight
from training.recipe import Recipe, read_recipe
from training.validation import Validation

CPU = torch.device("cpu")


@pytest.fixture
def dataset(recipe: Recipe, idx_folder: Path) -> Dataset:
    """Bars."""
    return load_dataset(recipe, idx_folder)


def forget(_: dict[str, Any]) -> None:
    """Save nothing."""


class Stop(Exception):
    """The exception with which a test interrupts a run."""


def stopped_after(epochs: int, folder: Path, run: Run, dataset: Dataset) -> None:
    """Train, saving into the folder, until that epoch has been saved."""

    def save(state: dict[str, Any]) -> None:
        checkpoint.save(folder, state)
        if len(state["history"]) == epochs:
            raise Stop

    with pytest.raises(Stop):
        train(run, dataset, save)


def flat(model: VAE) -> torch.Tensor:
    """All weights as one vector."""
    return torch.nn.utils.parameters_to_vector(model.parameters()).detach().clone()


def assert_equal_states(one: Any, other: Any) -> None:
    """Compare nested states bit for bit, without the times."""
    assert type(one) is type(other)
    if isinstance(one, torch.Tensor):
        assert torch.equal(one, other)
    elif isinstance(one, dict):
        assert one.keys() == other.keys()
        for key in one.keys() - {"images_per_s", "seconds"}:
            assert_equal_states(one[key], other[key])
    elif isinstance(one, list | tuple):
        assert len(one) == len(other)
        for left, right in zip(one, other, strict=True):
            assert_equal_states(left, right)
    else:
        assert one == other


def test_training_raises_the_bound(recipe: Recipe, dataset: Dataset) -> None:
    """After three epochs bars are far likelier than under random weights."""
    run = start(recipe, CPU)
    before = score(run.model, dataset.test).elbo_nats.mean()

    train(run, dataset, forget)

    assert score(run.averaged, dataset.test).elbo_nats.mean() > before + 10


def test_bfloat16_trains_as_far_as_float32(recipe_file: Path, dataset: Dataset) -> None:
    """Only products are computed in bfloat16: the weights stay float32, and the bounds differ by less than a nat."""
    bounds = []
    for precision in ("float32", "bfloat16"):
        run = start(read_recipe(str(recipe_file), [f"optimiser.precision={precision}"]), CPU)
        train(run, dataset, forget)
        assert {parameter.dtype for parameter in run.averaged.parameters()} == {torch.float32}
        bounds.append(score(run.averaged, dataset.test).elbo_nats.mean().item())

    assert bounds[0] != bounds[1]
    assert bounds[1] == pytest.approx(bounds[0], abs=1)


def test_same_recipe_and_data_give_the_same_weights(recipe: Recipe, dataset: Dataset) -> None:
    """On a CPU the weights agree bit for bit."""
    runs = [start(recipe, CPU), start(recipe, CPU)]
    for run in runs:
        train(run, dataset, forget)

    assert_equal_states(runs[0].state(), runs[1].state())


@pytest.mark.parametrize(("epochs", "flips"), [(1, "false"), (2, "false"), (1, "true")])
def test_resumed_run_is_the_run_that_was_not_stopped(
    recipe_file: Path, dataset: Dataset, tmp_path: Path, epochs: int, flips: str
) -> None:
    """Weights, averages, optimiser and history agree bit for bit after a stop and a checkpoint on the disk."""
    recipe = read_recipe(str(recipe_file), [f"data.flips={flips}"])
    whole = start(recipe, CPU)
    train(whole, dataset, forget)

    stopped_after(epochs, tmp_path, start(recipe, CPU), dataset)
    resumed = start(recipe, CPU)
    resumed.restore(checkpoint.load(tmp_path, CPU))
    train(resumed, dataset, forget)

    assert_equal_states(resumed.state(), whole.state())


def test_best_weights_are_those_of_the_best_validation(recipe: Recipe, dataset: Dataset) -> None:
    """The published weights are the best on the validation images, not the last."""
    run = start(recipe, CPU)
    train(run, dataset, forget)
    best = max(run.history, key=lambda epoch: epoch.validation_nats)

    assert run.best_epoch == best.number
    assert score(run.averaged, dataset.validation).elbo_nats.mean().item() == pytest.approx(best.validation_nats)


def test_divergence_is_an_error_that_names_the_remedy(recipe_file: Path, dataset: Dataset) -> None:
    """A model of NaN is not published."""
    recipe = read_recipe(str(recipe_file), ["optimiser.learning_rate=1e30", "optimiser.warmup_fraction=0"])

    with pytest.raises(Diverged, match=r"a learning rate of 1e\+30; try a smaller one"):
        train(start(recipe, CPU), dataset, forget)


def either_way(pixels: torch.Tensor) -> list[Any]:
    """The images, each as it is or mirrored, in an order that does not tell which."""
    return sorted(min(image.tolist(), image.flip(-1).tolist()) for image in pixels)


def test_only_training_images_are_flipped(recipe_file: Path, dataset: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    """The validation images are measured as they are, and each epoch trains on some mirrored images."""
    seen: list[torch.Tensor] = []

    def watched(run: Run, pixels: torch.Tensor, *more: Any) -> torch.Tensor:
        seen.append(pixels)
        return step(run, pixels, *more)

    def measured(_: VAE, pixels: torch.Tensor, __: ObjectiveRecipe) -> Validation:
        seen.append(pixels)
        return Validation(0.0, None)

    step = loop.train_step
    monkeypatch.setattr("training.loop.train_step", watched)
    monkeypatch.setattr("training.loop.validate", measured)
    run = start(read_recipe(str(recipe_file), ["data.flips=true", "epochs=1", "optimiser.batch_images=1000"]), CPU)
    train(run, dataset, forget)
    trained, validated = seen

    assert either_way(trained) == either_way(dataset.train)
    assert sorted(trained.tolist()) != sorted(dataset.train.tolist())
    assert torch.equal(validated, dataset.validation)


def test_learning_rate_rises_and_falls(recipe: Recipe) -> None:
    """The rate rises from 0 to its peak at the end of the warm-up, and falls to 0 along a cosine."""
    peak, warmup = recipe.optimiser.learning_rate, recipe.optimiser.warmup_fraction

    assert learning_rate(recipe, 0) == 0
    assert learning_rate(recipe, warmup) == pytest.approx(peak)
    assert learning_rate(recipe, (1 + warmup) / 2) == pytest.approx(peak / 2)
    assert learning_rate(recipe, 1) == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize(("epochs", "batch_images"), [(1, 1000), (1, 190), (2, 1000)], ids=str)
def test_every_step_learns(
    recipe_file: Path, dataset: Dataset, epochs: int, batch_images: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first step, in the warm-up, the last step, near zero, and the only step of a small data set."""
    changes = [f"epochs={epochs}", f"optimiser.batch_images={batch_images}", "objective.kl_warmup_fraction=1"]
    run = start(read_recipe(str(recipe_file), changes), CPU)
    weights, step = [flat(run.model)], run.optimiser.step
    kl_weights: list[float] = []

    def watched() -> None:
        step()
        weights.append(flat(run.model))

    def weighed(recipe: ObjectiveRecipe, progress: float) -> float:
        kl_weights.append(kl_weight(recipe, progress))
        return kl_weights[-1]

    monkeypatch.setattr(run.optimiser, "step", watched)
    monkeypatch.setattr(objective, "kl_weight", weighed)
    before = score(run.averaged, dataset.test).elbo_nats.mean()
    train(run, dataset, forget)

    steps = epochs * -(-len(dataset.train) // batch_images)
    assert len(weights) - 1 == len(kl_weights) == steps
    assert all(not torch.equal(one, other) for one, other in pairwise(weights))
    assert kl_weights == pytest.approx([(step + 0.5) / steps for step in range(steps)])
    assert score(run.averaged, dataset.test).elbo_nats.mean() > before


def test_bound_of_the_validation_that_is_not_finite_is_divergence(
    recipe: Recipe, dataset: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without the error, no epoch would be the best, and the initial weights would be published."""
    monkeypatch.setattr("training.loop.validate", lambda *_: Validation(float("nan"), None))

    with pytest.raises(Diverged):
        train(start(recipe, CPU), dataset, forget)


def test_folder_without_a_run_cannot_be_resumed(tmp_path: Path) -> None:
    """The message names the folder."""
    with pytest.raises(RunNotFound, match=rf"{tmp_path}: run\.json: No such file"):
        checkpoint.describe(tmp_path)


def test_checkpoint_that_is_missing_is_named(tmp_path: Path) -> None:
    """The message names the file."""
    with pytest.raises(RunNotFound, match=r"checkpoint\.pt cannot be read"):
        checkpoint.load(tmp_path, CPU)


@pytest.mark.parametrize("content", [b"", b"half", b"PK\x03\x04"], ids=["empty", "text", "cut-off"])
def test_checkpoint_that_cannot_be_read_is_named(tmp_path: Path, content: bytes) -> None:
    """A full disk may leave any part of the file."""
    (tmp_path / "checkpoint.pt").write_bytes(content)

    with pytest.raises(RunNotFound, match=r"checkpoint\.pt cannot be read"):
        checkpoint.load(tmp_path, CPU)


def test_evaluation_is_the_same_number_every_time(recipe: Recipe, dataset: Dataset) -> None:
    """The seed of the draws is part of the protocol."""
    model = start(recipe, CPU).model

    assert torch.equal(score(model, dataset.test).elbo_nats, score(model, dataset.test).elbo_nats)


def test_evaluation_does_not_depend_on_how_it_is_cut_into_batches(
    recipe: Recipe, dataset: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each image has its own draws, so that its number is the same in every cut, to float32's rounding."""
    model = start(recipe, CPU).model
    whole = score(model, dataset.train)
    monkeypatch.setattr("training.evaluate.bounds._BATCH_IMAGES", 7)

    cut = score(model, dataset.train)

    torch.testing.assert_close(cut.kl_nats, whole.kl_nats, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(cut.elbo_nats, whole.elbo_nats, rtol=1e-5, atol=1e-5)
