"""A model that has learned nothing has warnings: in the run, in its card, and in the output of commands."""

import dataclasses
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from model_store import VAE, Store, VAEConfig
from model_store.__main__ import main as look
from training.__main__ import main
from training.data import Dataset, load_dataset
from training.errors import NotFinite
from training.evaluate.__main__ import main as evaluate
from training.evaluate.quality import largest_variance, mean_image_nats, warnings
from training.evaluate.report import report
from training.recipe import Recipe, read_recipe

BLACK_AND_WHITE = torch.tensor([0, 255], dtype=torch.uint8).repeat(50).view(100, 1, 1, 1).expand(100, 1, 8, 8)


@pytest.fixture
def dataset(recipe: Recipe, idx_folder: Path) -> Dataset:
    """Bars."""
    return load_dataset(recipe, idx_folder)


def config(recipe_file: Path, *changes: str) -> VAEConfig:
    """The configuration of a model, with changes."""
    return read_recipe(str(recipe_file), [f"model.{change}" for change in changes]).model


@pytest.mark.parametrize(
    ("changes", "nats_per_pixel"),
    [
        pytest.param([], -math.log(2), id="bernoulli"),
        pytest.param(
            ["likelihood.kind=gaussian", "likelihood.standard_deviation=0.2"],
            -(0.25 / 0.04 + math.log(0.04 * 2 * math.pi)) / 2,
            id="gaussian-fixed",
        ),
        pytest.param(["likelihood.kind=gaussian"], -(1 + math.log(0.25 * 2 * math.pi)) / 2, id="gaussian"),
    ],
)
def test_mean_image_has_the_nats_that_one_computes_by_hand(
    recipe_file: Path, changes: list[str], nats_per_pixel: float
) -> None:
    """Pixels that are black in one half of the images and white in the other."""
    nats = mean_image_nats(config(recipe_file, *changes), BLACK_AND_WHITE, BLACK_AND_WHITE)

    assert nats.tolist() == pytest.approx([64 * nats_per_pixel] * 100, rel=1e-5)


@pytest.mark.parametrize("kind", ["gaussian", "discretised_logistic"])
def test_mean_image_cannot_be_bettered_by_another_spread(recipe_file: Path, kind: str) -> None:
    """Normal pixels; the spread of a logistic distribution is matched by its variance, so it is close to the best."""
    noise = torch.randn(200, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    pixels = (128 + 20 * noise).round().clamp(0, 255).to(torch.uint8)
    model = config(recipe_file, f"likelihood.kind={kind}")

    own = mean_image_nats(model, pixels, pixels).mean()

    assert own > mean_image_nats(model, spread(pixels, 2), pixels).mean() + 1
    assert own > mean_image_nats(model, spread(pixels, 0.5), pixels).mean() + 1


def spread(pixels: Tensor, factor: float) -> Tensor:
    """Multiply the distance of pixels from the middle grey."""
    return ((pixels.float() - 128) * factor + 128).round().clamp(0, 255).to(torch.uint8)


def test_good_model_has_no_warning(recipe: Recipe, dataset: Dataset) -> None:
    """The model is better than the mean image, and its latents carry more than a bit."""
    known = mean_image_nats(recipe.model, dataset.train, dataset.test).mean().item()

    assert warnings(VAE(recipe.model), dataset, "elbo_nats", known + 0.1, 0.7) == []


def test_bound_below_that_of_the_mean_image_is_a_warning(recipe: Recipe, dataset: Dataset) -> None:
    """The warning has both numbers and the remedy."""
    (said,) = warnings(VAE(recipe.model), dataset, "elbo_nats", -1.3e8, 20.0)

    assert said.startswith("elbo_nats is -1.3e+08, below the -")
    assert "a smaller optimiser.learning_rate" in said


def test_kl_of_less_than_a_bit_is_a_warning(recipe: Recipe, dataset: Dataset) -> None:
    """The posterior has collapsed to the prior."""
    (said,) = warnings(VAE(recipe.model), dataset, "elbo_nats", 0.0, 0.01)

    assert said.startswith("kl_nats is 0.01, less than one bit (0.69 nats): the posterior has collapsed")


def test_largest_variance_is_that_along_the_first_principal_direction() -> None:
    """Against the covariance's own eigenvalues, which numpy computes."""
    pixels = torch.randint(0, 256, (300, 1, 3, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    covariance = np.cov(pixels.flatten(1).numpy() / 255, rowvar=False, bias=True)

    assert largest_variance(pixels) == pytest.approx(np.linalg.eigvalsh(covariance)[-1])


@pytest.mark.parametrize(
    ("deviation", "remedy"),
    [
        pytest.param(10.0, "standard_deviation of 10 hides the images", id="too wide"),
        pytest.param(0.01, "raise objective.kl_warmup_fraction", id="narrow"),
    ],
)
def test_collapse_has_its_cause(recipe_file: Path, dataset: Dataset, deviation: float, remedy: str) -> None:
    """A standard deviation above that of the images in every direction leaves nothing for the latents to say."""
    wide = config(recipe_file, "likelihood.kind=gaussian", f"likelihood.standard_deviation={deviation}")

    *_, said = warnings(VAE(wide), dataset, "elbo_nats", 0.0, 0.01)

    assert "the posterior has collapsed" in said
    assert remedy in said


@pytest.mark.parametrize(
    ("changes", "measures"),
    [
        pytest.param([], ["elbo_nats", "kl_nats"], id="vae"),
        pytest.param(["model.posterior=point"], ["log p(x|z)"], id="autoencoder"),
        pytest.param(["model.posterior=none"], ["log_evidence_nats"], id="maximum-likelihood"),
    ],
)
def test_model_that_has_not_learned_says_so_everywhere(
    call: list[str], tmp_path: Path, changes: list[str], measures: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    """The warnings are in the run, the card, `show` and an evaluation; the model is published as well."""
    store = ["--store", str(tmp_path / "the store")]
    assert main([*call, "--set", "epochs=1", "optimiser.learning_rate=1e-9", *changes]) == 0
    run = capsys.readouterr().out
    evaluate(["bars", *store, "--data", call[2]])
    evaluation = capsys.readouterr().out
    look(["show", "bars", *store])
    shown = capsys.readouterr().out
    card = Store(tmp_path / "the store").load(Store(tmp_path / "the store").resolve("bars")).card

    assert [text.startswith(measure) for text, measure in zip(card.warnings, measures, strict=True)] == [True] * len(
        measures
    )
    assert all(f"Warning: {text}" in run and f"Warning: {text}" in evaluation for text in card.warnings)
    assert all(measure.split()[0] in shown for measure in measures)
    assert shown.count("warning") == len(measures)


@pytest.mark.parametrize("posterior", ["diagonal_gaussian", "point", "none"])
def test_model_whose_numbers_are_not_finite_is_not_published(
    recipe_file: Path, dataset: Dataset, posterior: str
) -> None:
    """The error is one sentence."""
    model = VAE(config(recipe_file, f"posterior={posterior}"))
    for parameter in model.parameters():
        torch.nn.init.constant_(parameter, math.nan)

    with pytest.raises(NotFinite, match="on the 40 images of the test set are not finite"):
        report(model, dataset, importance_samples=1)


def test_number_of_one_image_is_singular(recipe_file: Path, dataset: Dataset) -> None:
    """`--images 1` measures a single image; a shipped card has many, and its words stay."""
    one = dataclasses.replace(dataset, train=dataset.train[:1], test=dataset.test[:1])
    protocols = [metric.protocol for metric in report(VAE(config(recipe_file)), one, importance_samples=2).metrics]

    assert any("mean of 1 test image," in protocol for protocol in protocols)
    assert any("nearest of 1 training image," in protocol for protocol in protocols)
    assert not any(" 1 test images" in protocol or " 1 training images" in protocol for protocol in protocols)
