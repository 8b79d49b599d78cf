"""A distribution is fitted to a stored model's latents, and published as a new version of the model."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.distributions import Independent, Normal

from model_store import Store
from model_store.vae import Flow, FlowConfig, Mixture, MixtureConfig
from training.__main__ import main as train
from training.errors import CannotFit
from training.evaluate.__main__ import main as evaluate
from training.fit_prior import main
from training.fitting import Posteriors, fit

SMALL = ["--steps", "30", "--couplings", "2", "--width", "8"]


@pytest.fixture
def places(tmp_path: Path, idx_folder: Path) -> list[str]:
    """The store and the images, as arguments."""
    return ["--store", str(tmp_path / "store"), "--data", str(idx_folder)]


def trained(recipe_file: Path, places: list[str], tmp_path: Path, *changes: str) -> Store:
    """A store with bars@1."""
    assert train([str(recipe_file), *places, "--runs", str(tmp_path / "runs"), "--set", "epochs=1", *changes]) == 0
    return Store(tmp_path / "store")


def test_fitted_prior_is_a_new_version_with_the_same_networks(
    recipe_file: Path, places: list[str], tmp_path: Path
) -> None:
    """The tensors of encoder and decoder are the same; card, numbers and evaluation tell of the new prior."""
    store = trained(recipe_file, places, tmp_path)
    assert main(["bars", *places, *SMALL]) == 0
    before, after = (store.load(store.resolve(f"bars@{number}")) for number in (1, 2))
    tensors = after.vae.state_dict()

    assert all(torch.equal(tensor, tensors[name]) for name, tensor in before.vae.state_dict().items())
    assert isinstance(after.vae.prior, Flow)
    assert after.card.training == before.card.training
    assert after.card.fit is not None
    assert (after.card.fit.model, after.card.fit.kind, after.card.fit.role) == ("bars@1", "flow", "prior")
    assert before.card.fit is None
    protocol = next(metric.protocol for metric in after.card.metrics if metric.name == "elbo_nats")
    assert "the KL to the flow by the posterior draws" in protocol
    assert after.card.scores is not None
    curves = [(store.folder(each.version) / "curves.png").read_bytes() for each in (before, after)]
    assert curves[0] == curves[1]  # of the same training
    assert evaluate(["bars", *places, "--importance-samples", "2"]) == 0


def test_autoencoder_gets_a_sampler(recipe_file: Path, places: list[str], tmp_path: Path) -> None:
    """A plain autoencoder has no prior; with samplers of both kinds it can sample, and its samples are measured."""
    point = ["model.posterior=point", "model.likelihood.kind=gaussian", "model.likelihood.standard_deviation=0.2"]
    store = trained(recipe_file, places, tmp_path, *point)
    assert main(["bars", *places, *SMALL]) == 0
    assert main(["bars", *places, "--steps", "30", "--kind", "mixture", "--components", "3"]) == 0
    plain, flow, both = (store.load(store.resolve(f"bars@{number}")) for number in (1, 2, 3))

    assert [sorted(each.vae.config.sampler_names) for each in (plain, flow, both)] == [
        [],
        ["flow"],
        ["flow", "mixture"],
    ]
    assert all(torch.equal(tensor, both.vae.state_dict()[name]) for name, tensor in flow.vae.state_dict().items())
    assert "sample" not in plain.card.model.can
    assert {metric.name for metric in both.card.metrics} >= {"sample_distance", "mse"}
    assert (store.folder(both.version) / "samples.png").is_file()


def test_sampler_of_a_model_with_a_prior_leaves_the_bounds(
    recipe_file: Path, places: list[str], tmp_path: Path
) -> None:
    """With --as sampler the prior stays, and so do the ELBO and its protocol."""
    store = trained(recipe_file, places, tmp_path)
    assert main(["bars", *places, *SMALL, "--as", "sampler"]) == 0
    before, after = (store.card(store.resolve(f"bars@{number}")) for number in (1, 2))

    assert after.model.sampler_names == ("prior", "flow")
    assert after.metric("elbo_nats") == before.metric("elbo_nats")


@pytest.mark.parametrize(
    ("changes", "options", "message"),
    [
        (["model.posterior=none"], [], "posterior none has no latents of images"),
        (["model.posterior=point"], ["--as", "prior"], "leave prior out"),
        (["model.prior.kind=uniform"], [], "fit a sampler with --as sampler"),
        (["model.latent_shape=[1]"], [], "latents of 2 to 1024 values"),
        ([], ["--components", "3"], "components"),
        ([], ["--width", "100000"], "1024"),
    ],
)
def test_fit_that_is_not_possible_is_refused_before_any_work(
    recipe_file: Path,
    places: list[str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    changes: list[str],
    options: list[str],
    message: str,
) -> None:
    """The message says why, and nothing is published."""
    store = trained(recipe_file, places, tmp_path, *changes)

    assert main(["bars", *places, *options]) == 1
    assert message in " ".join(capsys.readouterr().out.split())
    assert len(store.versions()) == 1


def ring(count: int, seed: int) -> Tensor:
    """Points on a noisy circle (count, 2), which no single Gaussian describes."""
    generator = torch.Generator().manual_seed(seed)
    angles = 2 * torch.pi * torch.rand(count, generator=generator)
    points = 3 * torch.stack([angles.cos(), angles.sin()], 1)
    return points + 0.2 * torch.randn(count, 2, generator=generator)


def fitted(kind: str, steps: int) -> tuple[float, Tensor]:
    """How much likelier than a Gaussian a fit finds held-out points of a ring, in nats; and its weights."""
    torch.manual_seed(0)
    points, others = ring(2000, 1), ring(500, 2)
    flow, mixture = FlowConfig(couplings=4, width=16), MixtureConfig(components=20)
    distribution = Flow(flow, (2,)) if kind == "flow" else Mixture(mixture, (2,))
    train, held_out = (Posteriors(latents, torch.zeros_like(latents)) for latents in (points, others))
    found = fit(distribution, train, held_out, steps=steps, seed=0).log_density_nats
    gaussian = Independent(Normal(points.mean(0), points.std(0)), 1).log_prob(others).mean().item()
    return found - gaussian, torch.nn.utils.parameters_to_vector(distribution.parameters())


@pytest.mark.parametrize("kind", ["flow", "mixture"])
def test_fit_finds_a_better_density_than_a_gaussian(kind: str) -> None:
    """A ring around an empty middle is half a nat likelier, and more."""
    assert fitted(kind, steps=400)[0] > 0.5


@pytest.mark.parametrize("kind", ["flow", "mixture"])
def test_same_seed_gives_the_same_fit(kind: str) -> None:
    """The number of steps decides the fit, and not the time that they take."""
    assert torch.equal(fitted(kind, steps=5)[1], fitted(kind, steps=5)[1])


def test_fit_to_latents_that_are_not_finite_is_an_error() -> None:
    """A diverged model has no distribution."""
    broken = torch.full((10, 2), torch.inf)

    with pytest.raises(CannotFit, match="not finite"):
        fit(Flow(FlowConfig(couplings=2, width=4), (2,)), *[Posteriors(broken, broken)] * 2, steps=2, seed=0)
