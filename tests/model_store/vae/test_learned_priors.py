"""Flow and mixture: maps that undo each other, and densities that belong to the maps."""

from __future__ import annotations

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor
from torch.distributions import Categorical, Independent, MixtureSameFamily, Normal

from model_store.vae import (
    VAE,
    Flow,
    FlowConfig,
    Mixture,
    MixtureConfig,
    MLPConfig,
    StandardNormal,
    UniformConfig,
    VAEConfig,
)

KINDS = ("flow", "mixture")


def learned(kind: str, *latent_shape: int) -> Flow | Mixture:
    """A distribution with random weights, in float64: far from a Gaussian, and not separable."""
    torch.manual_seed(0)
    prior = (
        Flow(FlowConfig(couplings=6, width=16), latent_shape)
        if kind == "flow"
        else Mixture(MixtureConfig(components=5), latent_shape)
    ).double()
    with torch.no_grad():
        for parameter in prior.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return prior


def points(count: int, *shape: int) -> Tensor:
    """Standard normal noise in float64."""
    return torch.randn(count, *shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def log_determinant(prior: Flow | Mixture, latents: Tensor) -> Tensor:
    """log |det ∂normal/∂latents| of each latent (D,), by automatic differentiation."""
    jacobians = [
        torch.autograd.functional.jacobian(lambda row: prior.to_normal(row.unsqueeze(0))[0], each) for each in latents
    ]
    return torch.stack(jacobians).slogdet().logabsdet


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("shape", [(2,), (3,), (8,), (2, 3, 2)], ids=str)
def test_maps_undo_each_other(kind: str, shape: tuple[int, ...]) -> None:
    """Noise goes to latents and back, and latents to normal coordinates and back, up to five deviations away."""
    prior, noise = learned(kind, *shape), points(20, *shape)
    noise[0] *= 5 / noise[0].abs().max()

    torch.testing.assert_close(prior.to_normal(prior.from_normal(noise)), noise, atol=1e-6, rtol=0)
    torch.testing.assert_close(prior.from_normal(prior.to_normal(noise)), noise, atol=1e-6, rtol=0)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("values", [2, 5])
def test_density_is_the_density_of_the_noise_times_the_determinant(kind: str, values: int) -> None:
    """log p(z) = log N(T⁻¹(z); 0, I) + log |det dT⁻¹/dz|, with the determinant by automatic differentiation."""
    prior, latents = learned(kind, values), 2 * points(6, values)
    expected = StandardNormal().log_prob(prior.to_normal(latents)) + log_determinant(prior, latents)

    torch.testing.assert_close(prior.log_prob(latents), expected)


def test_flow_gives_its_own_determinant() -> None:
    """The sum of the couplings' log-scales is the log-determinant of the whole map."""
    flow, latents = learned("flow", 4), points(6, 4)
    assert isinstance(flow, Flow)

    torch.testing.assert_close(flow.normalise(latents)[1], log_determinant(flow, latents))


@pytest.mark.parametrize("kind", KINDS)
def test_density_integrates_to_one(kind: str) -> None:
    """The sum over a fine grid of the plane, which holds all of the distribution."""
    prior, axis = learned(kind, 2), torch.linspace(-25, 25, 501, dtype=torch.float64)
    with torch.no_grad():
        total = prior.log_prob(torch.cartesian_prod(axis, axis)).exp().sum() * (axis[1] - axis[0]) ** 2

    torch.testing.assert_close(total, torch.ones_like(total), atol=1e-4, rtol=0)


def test_mixture_is_the_mixture_of_torch() -> None:
    """The density agrees with `MixtureSameFamily`."""
    mixture, latents = learned("mixture", 4), points(7, 4)
    assert isinstance(mixture, Mixture)
    components = Independent(Normal(mixture.means, mixture.log_deviations.exp()), 1)
    reference = MixtureSameFamily(Categorical(logits=mixture.logits), components)

    torch.testing.assert_close(mixture.log_prob(latents), reference.log_prob(latents))


def test_new_flow_is_the_standard_normal() -> None:
    """Training begins with the prior that a model without a flow has."""
    flow, latents = Flow(FlowConfig(), (6,)), points(5, 6).float()

    torch.testing.assert_close(flow.from_normal(latents), latents)
    torch.testing.assert_close(flow.log_prob(latents), StandardNormal().log_prob(latents))


@pytest.mark.parametrize("shape", [(2,), (5,), (2, 2, 3)], ids=str)
def test_every_value_depends_on_every_other(shape: tuple[int, ...]) -> None:
    """The Jacobian of twelve couplings has no zero: no pair of values is left apart."""
    torch.manual_seed(2)
    flow = Flow(FlowConfig(couplings=12, width=8), shape).double()
    with torch.no_grad():
        for parameter in flow.parameters():
            parameter.add_(0.5 * torch.randn_like(parameter))
    latents = points(1, *shape)
    jacobian = torch.autograd.functional.jacobian(lambda row: flow.to_normal(row).flatten(), latents).flatten(1)

    assert (jacobian != 0).all()


@pytest.mark.parametrize("kind", KINDS)
def test_fit_begins_near_the_latents(kind: str) -> None:
    """Latents far from the origin are at least as likely as under a Gaussian with the moments of all of them."""
    latents = 7 + 3 * points(500, 3)
    prior = learned(kind, 3)
    fresh = (Flow(FlowConfig(), (3,)) if kind == "flow" else Mixture(MixtureConfig(), (3,))).double()
    fresh.begin_at(latents, seed=0)
    moments = Independent(Normal(latents.mean(0), latents.std(0)), 1).log_prob(latents).mean()

    assert fresh.log_prob(latents).mean() > moments - 1.5
    assert prior.log_prob(latents).mean() < moments - 1.5


@pytest.mark.parametrize("kind", KINDS)
def test_weights_of_the_prior_are_weights_of_the_model(kind: str) -> None:
    """The tensors of a learned prior are stored with the network's; other priors have none."""
    shape = {"image_shape": (1, 4, 4), "latent_shape": (3,), "network": MLPConfig(hidden=(8,))}
    names = [
        {name for name in VAE(VAEConfig.model_validate({**shape, **more})).state_dict() if name.startswith(start)}
        for more, start in (
            ({"prior": {"kind": kind}}, "prior."),
            ({"samplers": ({"kind": kind},)}, f"samplers.{kind}."),
            ({"prior": UniformConfig()}, "prior."),
            ({}, "samplers."),
        )
    ]

    assert [bool(found) for found in names] == [True, True, False, False]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"prior": {"kind": "flow"}, "latent_shape": (1,)}, r"2 to 1024 values, but latent_shape \(1,\) has 1"),
        ({"prior": {"kind": "flow"}, "latent_shape": (1025,)}, "has 1025"),
        ({"prior": {"kind": "mixture", "components": 4096}, "latent_shape": (100,)}, "use fewer components"),
        ({"prior": {"kind": "mixture"}, "posterior": "none"}, "posterior none has no latents of images"),
        ({"prior": {"kind": "flow"}, "posterior": "point"}, "leave prior out"),
        ({"samplers": ({"kind": "flow"}, {"kind": "flow"})}, "two of the same kind"),
    ],
)
def test_distribution_that_does_not_fit_is_refused(changes: dict[str, object], message: str) -> None:
    """The message names both values and the remedy."""
    fits = {"image_shape": (1, 4, 4), "latent_shape": (3,), "network": {"kind": "mlp", "hidden": (8,)}}

    with pytest.raises(ValidationError, match=message):
        VAEConfig.model_validate({**fits, **changes})


def test_card_of_a_model_without_samplers_keeps_its_text() -> None:
    """The member `samplers` is written only with a value."""
    config = VAEConfig(image_shape=(1, 4, 4), latent_shape=(3,), network=MLPConfig(hidden=(8,)))
    with_sampler = config.model_copy(update={"samplers": (FlowConfig(),)})

    assert "samplers" not in config.model_dump_json()
    assert VAEConfig.model_validate_json(with_sampler.model_dump_json()) == with_sampler
