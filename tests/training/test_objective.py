"""The objective: each change of the bound does what its paper says, and the reported number has none of them."""

import math
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor

from model_store import VAE
from model_store.vae import MLPConfig, VAEConfig
from model_store.vae.config import Posterior
from training import objective
from training.objective import ObjectiveRecipe
from training.recipe import Recipe

from ..bounds import bound_of

NETWORK = MLPConfig(hidden=(8,))
IMAGES = torch.ones(6, 1, 4, 4)


def model(posterior: Posterior = "diagonal_gaussian") -> VAE:
    """A small model."""
    torch.manual_seed(0)
    return VAE(VAEConfig(image_shape=(1, 4, 4), latent_shape=(3,), network=NETWORK, posterior=posterior))


def noise(vae: VAE, recipe: ObjectiveRecipe) -> Tensor:
    """The noise of a step on `IMAGES`."""
    shape = objective.noise_shape(vae.config, recipe, len(IMAGES))
    return torch.randn(shape, generator=torch.Generator().manual_seed(1))


def compute(vae: VAE, progress: float = 1.0, **changes: object) -> objective.Objective:
    """The objective of `IMAGES` with some changes of the recipe."""
    recipe = ObjectiveRecipe.model_validate(changes)
    return objective.compute(vae, IMAGES, noise(vae, recipe), recipe, progress)


def test_plain_objective_is_the_negative_bound() -> None:
    """The loss is the mean of −ELBO over the images, and the reported number is the mean ELBO."""
    vae = model()
    found = compute(vae)
    expected = bound_of(vae, IMAGES, noise(vae, ObjectiveRecipe())[0]).elbo_nats.mean()

    torch.testing.assert_close(found.nats, expected)
    torch.testing.assert_close(found.loss, -expected)


@pytest.mark.parametrize("weight", [0.0, 0.5, 4.0])
def test_kl_weight_weighs_the_kl_and_leaves_the_report(weight: float) -> None:
    """β − 1 times the KL is added to the loss; the reported bound does not change."""
    vae = model()
    kl = vae.posterior(IMAGES).kl_nats().mean()

    torch.testing.assert_close(compute(vae, kl_weight=weight).loss, compute(vae).loss + (weight - 1) * kl)
    torch.testing.assert_close(compute(vae, kl_weight=weight).nats, compute(vae).nats)


def test_kl_weight_rises_through_the_warm_up() -> None:
    """The weight rises linearly from 0 to its full value."""
    recipe = ObjectiveRecipe(kl_weight=2.0, kl_warmup_fraction=0.5)

    assert [objective.kl_weight(recipe, progress) for progress in (0, 0.25, 0.5, 1)] == [0, 1, 2, 2]


@pytest.mark.parametrize("kind", ["flow", "mixture"])
def test_kl_to_a_learned_prior_is_measured_by_the_draws(kind: str) -> None:
    """The number is the evaluation's bound, β weighs the KL of the draws, and the prior has a gradient."""
    torch.manual_seed(0)
    config = {"image_shape": (1, 4, 4), "latent_shape": (3,), "network": NETWORK, "prior": {"kind": kind}}
    vae = VAE(VAEConfig.model_validate(config))
    found, bound = compute(vae), bound_of(vae, IMAGES, noise(vae, ObjectiveRecipe())[0])
    found.loss.backward()

    torch.testing.assert_close(found.nats, bound.elbo_nats.mean())
    torch.testing.assert_close(compute(vae, kl_weight=3.0).loss, found.loss + 2 * bound.kl_nats.mean())
    assert all(parameter.grad is not None for parameter in vae.parameters())


@pytest.mark.parametrize(
    "changes", [{}, {"importance_weighted": True, "draws": 2}], ids=["elbo", "importance-weighted"]
)
def test_learned_prior_follows_the_draws_in_the_first_part_of_a_run(changes: dict[str, Any]) -> None:
    """Until then the networks have the gradient of a model with N(0, I), and the prior that of its log-density."""
    config = {"image_shape": (1, 4, 4), "latent_shape": (3,), "network": NETWORK}
    usual = VAE(VAEConfig.model_validate(config))
    vae = VAE(VAEConfig.model_validate({**config, "prior": {"kind": "mixture", "components": 2}}))
    vae.load_state_dict(usual.state_dict(), strict=False)
    early, expected = (compute(each, progress=0.1, **changes) for each in (vae, usual))
    early.loss.backward()
    expected.loss.backward()
    own = {name: parameter.grad for name, parameter in vae.named_parameters()}

    torch.testing.assert_close(early.nats, expected.nats)
    for name, parameter in usual.named_parameters():
        torch.testing.assert_close(own[name], parameter.grad)
    assert (own["prior.means"] != 0).all()  # type: ignore[union-attr]
    assert compute(vae, progress=0.1, prior_from_fraction=0.0, **changes).loss == compute(vae, **changes).loss


def test_free_nats_are_not_punished() -> None:
    """A dimension whose mean KL is below λ counts as λ and has no gradient; other dimensions count as they are."""
    vae = model()
    kl = vae.posterior(IMAGES).kl_nats_per_dimension().mean(0)
    free = kl.sort().values[1].item() + 1e-6  # two of three dimensions are below

    torch.testing.assert_close(compute(vae, free_nats=free).loss, compute(vae).loss - kl.sum() + 2 * free + kl.max())


def test_several_draws_are_averaged() -> None:
    """L draws give the mean of their bounds: Kingma and Welling 2014, equation (7)."""
    vae = model()
    draws = noise(vae, ObjectiveRecipe(draws=5))

    torch.testing.assert_close(compute(vae, draws=5).nats, bound_of(vae, IMAGES, *draws).elbo_nats.mean())


def test_importance_weighted_objective_is_the_tighter_bound() -> None:
    """The same number that evaluation computes draw by draw, with a gradient."""
    vae = model()
    draws = noise(vae, ObjectiveRecipe(draws=7))
    found = compute(vae, draws=7, importance_weighted=True)
    found.loss.backward()

    torch.testing.assert_close(found.nats, bound_of(vae, IMAGES, *draws).importance_weighted_nats.mean())
    assert all(parameter.grad is not None for parameter in vae.parameters())


def test_autoencoder_is_trained_on_what_it_rebuilds() -> None:
    """log p(x|z) at the encoder's point; nothing is drawn."""
    vae = model("point")
    expected = vae.decode(vae.encode(IMAGES).mean).log_prob(IMAGES).mean()

    torch.testing.assert_close(compute(vae).loss, -expected)


def test_generator_without_an_encoder_is_trained_on_the_evidence() -> None:
    """log 1/S Σ p(x|z_s) over the prior's draws, here one by one."""
    vae = model("none")
    draws = noise(vae, ObjectiveRecipe(draws=9))
    each = torch.stack([vae.decode(draw.expand(len(IMAGES), -1)).log_prob(IMAGES) for draw in draws])

    torch.testing.assert_close(compute(vae, draws=9).nats, (each.logsumexp(0) - math.log(9)).mean())


@pytest.mark.parametrize(
    ("posterior", "changes", "message"),
    [
        ("point", {"kl_weight": 2.0}, "change the ELBO alone"),
        ("none", {"free_nats": 1.0}, "change the ELBO alone"),
        ("diagonal_gaussian", {"importance_weighted": True, "kl_weight": 2.0}, "change the ELBO alone"),
        ("none", {"importance_weighted": True}, "needs a posterior; the model's is none"),
        ("point", {"draws": 2}, "a plain autoencoder draws nothing"),
    ],
)
def test_objective_that_would_do_nothing_is_refused(
    recipe: Recipe, posterior: str, changes: dict[str, object], message: str
) -> None:
    """A recipe cannot ask for a change that training would ignore."""
    values = recipe.model_dump(mode="json")
    values["model"]["posterior"] = posterior
    values["objective"].update(changes)

    with pytest.raises(ValidationError, match=message):
        Recipe.model_validate(values, strict=False)


@pytest.mark.parametrize(
    ("model", "changes", "message"),
    [
        ({"prior": {"kind": "flow"}}, {"free_nats": 1.0}, "which a learned prior does not have"),
        ({}, {"prior_from_fraction": 0.2}, "prior_from_fraction is for a learned prior"),
        ({"samplers": ({"kind": "flow"},)}, {}, "model.samplers are fitted to a model that is trained"),
    ],
)
def test_learned_distribution_that_training_does_not_take_is_refused(
    recipe: Recipe, model: dict[str, object], changes: dict[str, object], message: str
) -> None:
    """The message names the remedy."""
    values = recipe.model_dump(mode="json")
    values["model"].update(model)
    values["objective"].update(changes)

    with pytest.raises(ValidationError, match=message):
        Recipe.model_validate(values, strict=False)
