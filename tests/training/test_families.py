"""Every family of models, from recipe to card: trained, measured, published, read back."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from model_store import VAE, Store, StoredModel
from training.__main__ import main
from training.data import Dataset, load_dataset
from training.evaluate.__main__ import main as evaluate
from training.evaluate.bounds import evidence, score
from training.loop import Run, start, train
from training.recipe import Recipe, read_recipe

from .conftest import bars

FAMILIES = {
    "gaussian": ["model.likelihood.kind=gaussian"],
    "gaussian-fixed": ["model.likelihood.kind=gaussian", "model.likelihood.standard_deviation=0.2"],
    "gaussian-fitted": [
        "model.likelihood.kind=gaussian",
        "model.likelihood.standard_deviation=0.2",
        "objective.fits_deviation=true",
    ],
    "discretised": ["model.likelihood.kind=discretised_logistic"],
    "mixture": ["model.likelihood.kind=logistic_mixture", "model.likelihood.components=2"],
    "uniform": ["model.prior.kind=uniform"],
    "flow-prior": ["model.prior.kind=flow", "model.prior.couplings=2", "model.prior.width=8"],
    "mixture-prior": ["model.prior.kind=mixture", "model.prior.components=3", "objective.kl_weight=0.5"],
    "flow-prior-importance-weighted": [
        "model.prior={kind = 'flow', couplings = 2, width = 8}",
        "objective.importance_weighted=true",
        "objective.draws=3",
    ],
    "autoencoder": [
        "model.posterior=point",
        "model.likelihood.kind=gaussian",
        "model.likelihood.standard_deviation=0.2",
    ],
    "maximum-likelihood": ["model.posterior=none", "objective.draws=50"],
    "maximum-likelihood-mixture": ["model.posterior=none", "model.likelihood.kind=logistic_mixture"],
    "beta": ["objective.kl_weight=4.0", "objective.kl_warmup_fraction=0.5", "objective.free_nats=0.1"],
    "importance-weighted": ["objective.draws=5", "objective.importance_weighted=true"],
}

METRICS = {
    "autoencoder": {"mse", "psnr_db"},
    "maximum-likelihood": {"log_evidence_nats", "sample_distance", "test_distance"},
    "maximum-likelihood-mixture": {"log_evidence_nats", "sample_distance", "test_distance"},
}
USUAL = {
    "elbo_nats",
    "log_likelihood_nats",
    "kl_nats",
    "importance_weighted_nats",
    "mse",
    "psnr_db",
    "active_units",
    "aggregate_kl_nats",
    "sample_distance",
    "test_distance",
}


def published(changes: list[str], recipe_file: Path, idx_folder: Path, tmp_path: Path) -> StoredModel:
    """Train with these changes, and return the published model."""
    store = tmp_path / "store"
    places = ["--data", str(idx_folder), "--store", str(store), "--runs", str(tmp_path / "runs"), "--device", "cpu"]
    assert main([str(recipe_file), *places, "--set", *changes]) == 0
    return Store(store).load(Store(store).resolve("bars"))


def crossings(count: int, generator: torch.Generator) -> Tensor:
    """Pictures of some white rows and columns, uint8 (count, 1, 8, 8): there are 65 000, too many to remember."""
    rows, columns = (torch.rand(2, count, 8, generator=generator) < 0.25).unbind()
    return (rows.unsqueeze(2) | columns.unsqueeze(1)).unsqueeze(1).to(torch.uint8) * 255


def trained(dataset: Dataset, recipe_file: Path, *changes: str) -> Run:
    """A run that was trained to its end."""
    run = start(read_recipe(str(recipe_file), changes), torch.device("cpu"))
    train(run, dataset, lambda _: None)
    return run


@pytest.mark.parametrize("family", FAMILIES)
def test_family_is_trained_measured_and_published(
    family: str, recipe_file: Path, idx_folder: Path, tmp_path: Path
) -> None:
    """The card has the metrics of its family and no others."""
    stored = published(FAMILIES[family], recipe_file, idx_folder, tmp_path)
    found = {metric.name for metric in stored.card.metrics}
    bits = {"bits_per_dimension"} if family in {"discretised", "mixture"} else set()
    of_the_standard_normal = {"aggregate_kl_nats"} if "prior" in family else set()

    assert found == METRICS.get(family, USUAL | bits) - of_the_standard_normal
    assert all(metric.protocol for metric in stored.card.metrics)
    assert (stored.card.latents is None) == ("none" in str(FAMILIES[family]))
    assert (stored.card.scores is None) == (family in METRICS)


def test_inference_beats_draws_from_the_prior(recipe_file: Path, idx_folder: Path) -> None:
    """The same decoder and the same steps: with an encoder's draws the held-out images become far likelier (idea 3).

    Both are measured by lower bounds of log p(x): the generator's with a thousand draws of the prior, the VAE's with
    one draw of its posterior, which is the less generous one.
    """
    generator = torch.Generator().manual_seed(0)
    training, validation, test = (crossings(count, generator) for count in (2000, 100, 200))
    dataset = Dataset("crossings", training, validation, test, resize="none")
    changes = ("epochs=15", "model.latent_shape=[8]", "model.network.hidden=[64]", "optimiser.learning_rate=5e-3")
    blind = trained(dataset, recipe_file, *changes, "model.posterior=none", "objective.draws=20").averaged
    vae = trained(dataset, recipe_file, *changes).averaged
    decoders = [sum(parameter.numel() for parameter in model.decoder.parameters()) for model in (blind, vae)]

    assert decoders[0] == decoders[1]
    assert score(vae, dataset.test).elbo_nats.mean() > evidence(blind, dataset.test).mean() + 1


def test_kl_weight_trades_reconstruction_for_regularisation(recipe_file: Path, idx_folder: Path) -> None:
    """A larger β gives a smaller KL and worse reconstructions (idea 5)."""
    dataset = load_dataset(read_recipe(str(recipe_file)), idx_folder)
    runs = [trained(dataset, recipe_file, "epochs=12", f"objective.kl_weight={weight}") for weight in (0.1, 1, 5)]
    scores = [score(run.averaged, dataset.test) for run in runs]

    assert [s.kl_nats.mean() for s in scores] == sorted((s.kl_nats.mean() for s in scores), reverse=True)
    likelihoods = [s.log_likelihood_nats.mean() for s in scores]
    assert likelihoods == sorted(likelihoods, reverse=True)


def test_stored_model_is_measured_again_to_the_same_numbers(
    recipe_file: Path, idx_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """`python -m training.evaluate` prints the numbers of the card, with their protocols."""
    card = published(["seed=3"], recipe_file, idx_folder, tmp_path).card

    assert evaluate(["bars", "--data", str(idx_folder), "--store", str(tmp_path / "store")]) == 0
    printed = capsys.readouterr().out
    for metric in card.metrics:
        assert metric.measurement in printed
    assert "K = 50 posterior draws each" in " ".join(printed.split())


def test_model_is_not_measured_on_other_images(
    recipe_file: Path, idx_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The card has the hash of its images; numbers for other images would mean something else."""
    published(["seed=3"], recipe_file, idx_folder, tmp_path)
    (idx_folder / "t10k-images-idx3-ubyte.gz").write_bytes((idx_folder / "train-images-idx3-ubyte").read_bytes())
    (idx_folder / "t10k-images-idx3-ubyte.gz").rename(idx_folder / "t10k-images-idx3-ubyte")

    assert evaluate(["bars", "--data", str(idx_folder), "--store", str(tmp_path / "store")]) == 1
    assert "the model was trained on other images (idx); name those with --data" in capsys.readouterr().out


@pytest.fixture
def by_hand(tmp_path: Path, recipe: Recipe) -> str:
    """A store with a model whose card has no recipe."""
    store = Store(tmp_path / "store")
    store.prepare("bars")
    store.publish("bars", VAE(recipe.model))
    return str(store.root)


def test_model_that_was_published_by_hand_is_measured_on_data(
    by_hand: str, idx_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The model is measured on the test images; metrics that need the training images are left out."""
    assert evaluate(["bars", "--store", by_hand, "--data", str(idx_folder)]) == 0
    said = capsys.readouterr().out

    assert "40 test images of idx" in " ".join(said.split())
    assert "elbo_nats" in said
    assert "sample_distance" not in said


def test_model_that_was_published_by_hand_needs_data(by_hand: str, capsys: pytest.CaptureFixture[str]) -> None:
    """The card does not name a data set."""
    assert evaluate(["bars", "--store", by_hand]) == 1
    assert "name test images with --data" in capsys.readouterr().out


def test_images_for_a_model_published_by_hand_are_brought_to_size(
    by_hand: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The option --resize says how, since there is no recipe; without a test set all images are measured."""
    np.save(tmp_path / "large.npy", bars(20, side=16)[:, 0].numpy())
    call = ["bars", "--store", by_hand, "--data", str(tmp_path / "large.npy")]

    assert evaluate(call) == 1
    assert "to evaluate a model without a recipe, set --resize" in capsys.readouterr().out
    assert evaluate([*call, "--resize", "stretch"]) == 0


def test_recipe_of_another_release_in_a_card_is_refused_in_our_words(
    recipe_file: Path, idx_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The error is one line in our words, not the report of a library."""
    store = tmp_path / "store"
    published(["seed=3"], recipe_file, idx_folder, tmp_path)
    path = store / "bars" / "1" / "card.json"
    card = json.loads(path.read_text())
    card["training"]["recipe"]["epochs"] = 0
    path.write_text(json.dumps(card))

    assert evaluate(["bars", "--data", str(idx_folder), "--store", str(store)]) == 1
    said = " ".join(capsys.readouterr().out.split())
    assert "it is of another release (epochs must be at least 1, not 0)" in said
    assert "validation error" not in said
