"""A run finds the standard deviation of the pixels that fits the errors of its decoder."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from torch import Tensor

from model_store import VAE, Store
from model_store.families import ModelConfig
from model_store.vae.config import MAX_DEVIATION, MIN_DEVIATION, GaussianConfig, VAEConfig
from model_store.vae.likelihoods import Gaussian
from training.__main__ import main
from training.deviation import mean_squared_error_of_draws, with_fitted_deviation
from training.errors import BadRecipe
from training.evaluate.bounds import point_likelihood, score
from training.loop import start
from training.recipe import read_recipe
from training.warm_start import warm_start

from .conftest import bars

FITTED = [
    "model.likelihood.kind=gaussian",
    "model.likelihood.standard_deviation=0.5",
    "objective.fits_deviation=true",
]


def deviation_of(config: ModelConfig) -> float:
    """The standard deviation of a model's pixels."""
    assert isinstance(config, VAEConfig)
    assert isinstance(config.likelihood, GaussianConfig)
    assert config.likelihood.standard_deviation is not None
    return config.likelihood.standard_deviation


@pytest.fixture
def published(recipe_file: Path, idx_folder: Path, tmp_path: Path) -> Store:
    """A store with bars@1, whose run has found the standard deviation."""
    root = tmp_path / "store"
    places = ["--data", str(idx_folder), "--store", str(root), "--runs", str(tmp_path / "runs"), "--device", "cpu"]
    assert main([str(recipe_file), *places, "--set", *FITTED]) == 0
    return Store(root)


def test_no_other_variance_makes_images_likelier() -> None:
    images = torch.rand(4, 3, 5, 5)
    given = Gaussian(torch.rand(4, 3, 5, 5), torch.tensor(0.0))

    best = given.with_best_variance(images)

    others = [Gaussian(given.location, best.log_variance + change) for change in torch.linspace(-1, 1, 20)]
    assert all(best.log_prob(images).mean() > other.log_prob(images).mean() for other in others)


def test_gradient_is_that_of_the_logarithm_of_the_mean_squared_error() -> None:
    """The best variance in log p(x|z) leaves −D/2 log e of the squared error e, and constants."""
    images = torch.rand(4, 3, 5, 5)
    location = torch.rand(4, 3, 5, 5, requires_grad=True)

    Gaussian(location, torch.tensor(0.0)).with_best_variance(images).log_prob(images).mean().backward()

    ours, location.grad = location.grad, None
    (-(3 * 5 * 5) / 2 * (images - location).square().mean().log()).backward()
    torch.testing.assert_close(ours, location.grad)


def test_perfect_locations_have_the_least_variance() -> None:
    """A variance of zero would make every image infinitely likely."""
    images = torch.rand(2, 1, 4, 4)

    assert Gaussian(images, torch.tensor(0.0)).with_best_variance(images).log_prob(images).isfinite().all()


@pytest.mark.parametrize("posterior", ["diagonal_gaussian", "point"])
def test_fitted_number_makes_the_images_most_likely(recipe_file: Path, posterior: str) -> None:
    recipe = read_recipe(str(recipe_file), [*FITTED, f"model.posterior={posterior}"])
    torch.manual_seed(0)
    model, pixels = VAE(recipe.model), bars(100)
    best = math.sqrt(mean_squared_error_of_draws(model, pixels))

    def nats(deviation: float) -> Tensor:
        likelihood = GaussianConfig(standard_deviation=deviation)
        model.config = recipe.model.model_copy(update={"likelihood": likelihood})
        each = point_likelihood(model, pixels) if posterior == "point" else score(model, pixels).log_likelihood_nats
        return each.mean()

    assert nats(best) > max(nats(best * 0.99), nats(best * 1.01))


def test_published_model_has_the_number_of_its_best_weights(published: Store, idx_folder: Path) -> None:
    stored = published.load(published.resolve("bars@1"))
    assert isinstance(stored.model, VAE)

    found = deviation_of(with_fitted_deviation(stored.model, bars(400)))

    assert stored.card.training is not None
    assert "'standard_deviation': 0.5" in str(stored.card.training.recipe)
    assert deviation_of(stored.model.config) == pytest.approx(found, rel=0.05)
    assert found < 0.4


@pytest.mark.parametrize("given", [0.001, 0.5, 10.0])
def test_number_that_a_model_has_does_not_change_the_fitted_one(recipe_file: Path, given: float) -> None:
    """A run that is resumed begins with the number of the recipe, and finds the one that it had found before."""
    recipe = read_recipe(str(recipe_file), [*FITTED, f"model.likelihood.standard_deviation={given}"])
    torch.manual_seed(0)
    model = VAE(recipe.model)
    once = with_fitted_deviation(model, bars(100))

    model.config = once

    assert with_fitted_deviation(model, bars(100)) == once


@pytest.mark.parametrize(("level", "bound"), [(0, MIN_DEVIATION), (1e4, MAX_DEVIATION)])
def test_fitted_number_is_one_that_a_card_may_have(recipe_file: Path, level: float, bound: float) -> None:
    """A decoder that has diverged, or that is perfect."""
    model = VAE(read_recipe(str(recipe_file), FITTED).model)
    with torch.no_grad():
        model.get_parameter("decoder.output.weight").zero_()
        model.get_parameter("decoder.output.bias").fill_(level)

    fitted = with_fitted_deviation(model, torch.zeros(3, 1, 8, 8, dtype=torch.uint8))

    assert deviation_of(fitted) == bound
    assert VAEConfig.model_validate_json(fitted.model_dump_json()) == fitted


def test_importance_weighted_bound_has_no_fitted_number(recipe_file: Path) -> None:
    """The variance that fits the errors of the draws is not the best one for that bound."""
    changes = [*FITTED, "objective.draws=5", "objective.importance_weighted=true"]

    with pytest.raises(BadRecipe, match="not the importance-weighted bound"):
        read_recipe(str(recipe_file), changes)


def test_run_can_begin_from_a_model_with_a_fitted_number(published: Store, recipe_file: Path) -> None:
    recipe = read_recipe(str(recipe_file), [*FITTED, "begin_from=bars@1"])
    run = start(recipe, torch.device("cpu"))

    warm_start(run, published)

    stored = published.load(published.resolve("bars@1")).model.state_dict()
    assert all(torch.equal(tensor, stored[name]) for name, tensor in run.model.state_dict().items())


@pytest.mark.parametrize(
    "likelihood",
    [
        pytest.param(["model.likelihood.kind=bernoulli", "objective.fits_deviation=false"], id="another likelihood"),
        pytest.param(
            ["model.likelihood.kind=gaussian", "objective.fits_deviation=false"], id="a number for each pixel"
        ),
    ],
)
def test_run_does_not_begin_from_a_model_with_another_likelihood(
    published: Store, recipe_file: Path, likelihood: list[str]
) -> None:
    run = start(read_recipe(str(recipe_file), [*likelihood, "begin_from=bars@1"]), torch.device("cpu"))

    with pytest.raises(BadRecipe, match="another"):
        warm_start(run, published)


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param([], id="binary pixels"),
        pytest.param(["model.likelihood.kind=gaussian"], id="learned pixel by pixel"),
        pytest.param(["model.likelihood.kind=discretised_logistic"], id="8-bit pixels"),
        pytest.param([*FITTED, "model.posterior=none"], id="no encoder"),
    ],
)
def test_recipe_without_a_number_to_fit_is_refused(recipe_file: Path, changes: list[str]) -> None:
    with pytest.raises(BadRecipe, match="fits_deviation needs an encoder and a gaussian likelihood"):
        read_recipe(str(recipe_file), [*changes, "objective.fits_deviation=true"])
