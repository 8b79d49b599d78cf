"""The bound, twice (idea 4), on a model whose p(x) and p(z|x) are known: linear, and Gaussian throughout.

z ~ N(0, I), x|z ~ N(W z + b, s² I): so x ~ N(b, W Wᵀ + s² I) and z|x ~ N(M⁻¹ Wᵀ (x − b)/s², M⁻¹) with
M = I + Wᵀ W/s² (Bishop 2006, "Pattern recognition and machine learning", equations 12.35 and 12.42).
"""

from __future__ import annotations

import math
from itertools import pairwise
from typing import cast

import torch
from torch import Tensor, nn
from torch.distributions import MultivariateNormal, kl_divergence

from model_store.vae import VAE, DiagonalGaussian, Flow, FlowConfig, GaussianConfig, MLPConfig, VAEConfig
from model_store.vae.elbo import log_weight

from ...bounds import bound_of

LATENTS, PIXELS, NOISE = 2, 12, 0.5


class LinearGaussian(VAE):
    """A VAE with a linear decoder, and a linear encoder that is wrong about the posterior."""

    def __init__(self, seed: int = 0) -> None:
        super().__init__(
            VAEConfig(
                image_shape=(1, 3, 4),
                latent_shape=(LATENTS,),
                network=MLPConfig(hidden=(1,)),
                likelihood=GaussianConfig(standard_deviation=NOISE),
            )
        )
        torch.manual_seed(seed)
        self.encoder = nn.Sequential(nn.Flatten(), nn.Linear(PIXELS, 2 * LATENTS))
        self.linear = nn.Linear(LATENTS, PIXELS)
        self.decoder = nn.Sequential(self.linear, nn.Unflatten(1, (1, 3, 4)))

    def evidence(self, images: Tensor) -> Tensor:
        """log p(x), (B,), in closed form."""
        weight = self.linear.weight
        covariance = weight @ weight.T + NOISE**2 * torch.eye(PIXELS)
        evidence: Tensor = MultivariateNormal(self.linear.bias, covariance).log_prob(images.flatten(1))
        return evidence

    def true_posterior(self, images: Tensor) -> MultivariateNormal:
        """p(z|x) in closed form."""
        weight = self.linear.weight
        covariance = torch.linalg.inv(torch.eye(LATENTS) + weight.T @ weight / NOISE**2)
        return MultivariateNormal((images.flatten(1) - self.linear.bias) @ weight @ covariance / NOISE**2, covariance)


def sigma_points(images: int) -> Tensor:
    """Noise whose mean over 2D draws gives the expectation of any quadratic function exactly: ±√D along each axis.

    (2D, B, D); Julier and Uhlmann 1997, "A new extension of the Kalman filter to nonlinear systems", section 3.
    """
    axes = math.sqrt(LATENTS) * torch.eye(LATENTS)
    return torch.cat([axes, -axes]).unsqueeze(1).expand(-1, images, -1)


def gap(model: LinearGaussian, images: Tensor) -> Tensor:
    """KL(q(z|x) ‖ p(z|x)), (B,), by torch."""
    posterior = model.posterior(images)
    approximate = MultivariateNormal(posterior.mean, torch.diag_embed(posterior.log_variance.exp()))
    return kl_divergence(approximate, model.true_posterior(images))


def pictures(count: int) -> Tensor:
    """Random images."""
    return torch.randn(count, 1, 3, 4, generator=torch.Generator().manual_seed(1))


def test_evidence_is_the_bound_and_the_gap_to_the_posterior() -> None:
    """log p(x) = ELBO + KL(q(z|x) ‖ p(z|x)) to the last digits: Bayes' rule, with an exact ELBO by sigma points."""
    model, images = LinearGaussian(), pictures(6)

    elbo = torch.stack([bound_of(model, images, noise).elbo_nats for noise in sigma_points(6)]).mean(0)

    torch.testing.assert_close(elbo + gap(model, images), model.evidence(images))
    assert (gap(model, images) > 0.1).all()


def test_bound_is_tight_where_the_posterior_is_the_true_one() -> None:
    """With one latent every Gaussian is diagonal; the encoder that knows p(z|x) closes the gap for every draw of z."""
    model, images = LinearGaussian(), pictures(5)
    nn.init.zeros_(model.linear.weight[:, 1])
    with torch.no_grad():
        truth = model.true_posterior(images)
        covariance = truth.covariance_matrix
    posterior = DiagonalGaussian(truth.mean, torch.diagonal(covariance, dim1=-2, dim2=-1).log().expand(5, -1))
    noise = torch.randn(5, LATENTS, generator=torch.Generator().manual_seed(2))
    normal = posterior.sample(noise)
    weights = log_weight(posterior, model.prior, normal, model.decode(normal).log_prob(images))

    torch.testing.assert_close(weights, model.evidence(images))


def test_bound_rises_with_the_draws_and_stays_below_the_evidence() -> None:
    """Burda et al. 2016, theorem 1: L₁ ≤ L₂ ≤ L₄ ≤ … ≤ log p(x), for the mean over 20 000 repetitions of an image.

    The steps are 10 standard errors and more of their difference, so that no order is by chance.
    """
    model, image = LinearGaussian(), pictures(1)
    repeated = image.expand(20_000, -1, -1, -1)
    noise = torch.randn(32, 20_000, LATENTS, generator=torch.Generator().manual_seed(3))
    counts = (1, 2, 4, 8, 16, 32)
    with torch.inference_mode():
        bounds = [bound_of(model, repeated, *noise[:count]).importance_weighted_nats for count in counts]

    for fewer, more in pairwise(bounds):
        difference = more - fewer
        assert difference.mean() > 10 * difference.std() / math.sqrt(len(difference))
    error = bounds[-1].std() / math.sqrt(len(repeated))
    assert bounds[-1].mean() + 6 * error < model.evidence(image)


def test_one_weight_has_the_bound_as_its_mean() -> None:
    """With a single draw the importance-weighted bound is a noisier ELBO: equal means within 6 standard errors."""
    model, image = LinearGaussian(), pictures(1)
    draws = 20_000
    noise = torch.randn(draws, LATENTS, generator=torch.Generator().manual_seed(4))

    bound = bound_of(model, image.expand(draws, -1, -1, -1), noise)
    difference = bound.importance_weighted_nats - bound.elbo_nats

    assert difference.mean().abs() < 6 * difference.std() / math.sqrt(draws)


class FlowBetween(LinearGaussian):
    """The same model behind a flow: the latents are bent, and the decoder bends them back before its linear layer.

    In normal coordinates p(x) and the posterior are the same as of the linear model.
    """

    def __init__(self) -> None:
        super().__init__()
        self.prior = flow = Flow(FlowConfig(couplings=4, width=8), (LATENTS,))
        with torch.no_grad():
            for parameter in flow.parameters():
                parameter.add_(0.2 * torch.randn_like(parameter))
        self.decoder = nn.Sequential(ToNormal(flow), self.decoder)

    def log_posterior(self, images: Tensor, latents: Tensor) -> Tensor:
        """log p(z|x), (B,): the linear model's in normal coordinates, times the determinant."""
        normal, log_determinant = cast("Flow", self.prior).normalise(latents)
        log_density: Tensor = self.true_posterior(images).log_prob(normal)
        return log_density + log_determinant


class ToNormal(nn.Module):
    """The first layer of a decoder that knows the flow."""

    def __init__(self, flow: Flow) -> None:
        super().__init__()
        self.flow = flow

    def forward(self, latents: Tensor) -> Tensor:
        """Normal coordinates of latents."""
        return self.flow.to_normal(latents)


def test_evidence_is_the_bound_and_the_gap_with_a_flow_between() -> None:
    """log p(x) = ELBO + KL(q(z|x) ‖ p(z|x)) for every draw, hence for the means over the same draws."""
    model, images = FlowBetween(), pictures(6)
    noises = torch.randn(8, 6, LATENTS, generator=torch.Generator().manual_seed(5))
    posterior = model.posterior(images)
    drawn = [posterior.sample(noise) for noise in noises]
    gaps = [posterior.log_prob(latents) - model.log_posterior(images, latents) for latents in drawn]

    bound = bound_of(model, images, *noises)

    torch.testing.assert_close(bound.elbo_nats + torch.stack(gaps).mean(0), model.evidence(images), atol=1e-4, rtol=0)
    assert (torch.stack(gaps).mean(0).abs() > 0.1).any()


def test_kl_by_draws_has_the_closed_kl_as_its_mean() -> None:
    """A new flow is N(0, I), whose KL has a closed form: equal within 6 standard errors of 20 000 draws."""
    model, image = LinearGaussian(), pictures(1)
    repeated = image.expand(20_000, -1, -1, -1)
    model.prior = Flow(FlowConfig(couplings=2, width=4), (LATENTS,))
    noise = torch.randn(20_000, LATENTS, generator=torch.Generator().manual_seed(6))
    with torch.no_grad():
        by_draws = bound_of(model, repeated, noise).kl_nats
        closed = model.posterior(image).kl_nats()

    assert (by_draws.mean() - closed).abs() < 6 * by_draws.std() / math.sqrt(20_000)
