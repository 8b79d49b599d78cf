"""The evidence lower bound and its tighter relatives, in nats per image.

Training, evaluation and the service all take them from here, so that they are the same numbers in all three.
What is optimised is training's own matter.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from .model import VAE
from .posterior import DiagonalGaussian
from .priors import StandardNormal


@dataclass(frozen=True)
class Bound:
    """The two terms of the bound for each image, both (B,) in nats."""

    log_likelihood_nats: Tensor
    kl_nats: Tensor

    @property
    def elbo_nats(self) -> Tensor:
        """E_q[log p(x|z)] − KL(q(z|x) ‖ p(z)) ≤ log p(x), (B,): Kingma and Welling 2014, equation (3)."""
        return self.log_likelihood_nats - self.kl_nats


def bound(model: VAE, images: Tensor, noise: Tensor) -> Bound:
    """The bound of `images` with one posterior draw each, from `noise` (B, *latent_shape).

    The KL is exact; the log-likelihood is its one-draw estimate (equation (7) there, L = 1). For a Bernoulli model
    the images must be binary.

    Raises:
        NoPosterior: the model has no posterior distribution, and so no bound.
    """
    return estimate(model, images, [noise]).bound


def estimate(model: VAE, images: Tensor, noises: Iterable[Tensor]) -> Estimate:
    """What posterior draws tell of `images`, one draw from each of the `noises`, each (B, *latent_shape).

    Draws are taken one by one, so that any number of them fits into memory.

    Raises:
        NoPosterior: the model has no posterior distribution.
    """
    known = Estimate(model.posterior(images))
    for noise in noises:
        normal = known.posterior.sample(noise)
        known.add(normal, model.decode(model.prior.from_normal(normal)).log_prob(images))
    return known


class Estimate:
    """What is known of B images after some draws from their posterior; `add` takes them in, some at a time.

    Sums are kept in float64: of five thousand float32 numbers they would lose a tenth of a nat.
    """

    def __init__(self, posterior: DiagonalGaussian) -> None:
        self.posterior = posterior
        self.draws = 0
        self._log_likelihoods = torch.zeros(len(posterior.mean), dtype=torch.float64, device=posterior.mean.device)
        self._log_weights = torch.full_like(self._log_likelihoods, -torch.inf)

    def add(self, normal: Tensor, log_likelihood_nats: Tensor) -> None:
        """L draws of every image, one after the other: normal coordinates (L·B, *latent_shape), log p(x|z) (L·B,)."""
        draws = len(normal) // len(self._log_weights)
        weights = log_weight(self.posterior.repeated(draws), normal, log_likelihood_nats).double().view(draws, -1)
        self._log_likelihoods = self._log_likelihoods + log_likelihood_nats.double().view(draws, -1).sum(0)
        self._log_weights = self._log_weights.logaddexp(weights.logsumexp(0))
        self.draws += draws

    @property
    def bound(self) -> Bound:
        """The evidence lower bound, its log-likelihood the mean of the draws: Kingma and Welling 2014, equation (7)."""
        return Bound((self._log_likelihoods / self.draws).float(), self.posterior.kl_nats())

    @property
    def importance_weighted_nats(self) -> Tensor:
        """log 1/K Σ p(x, z_k)/q(z_k|x), (B,), for K draws: Burda et al. 2016, equation (8).

        Its mean rises with K towards log p(x) (theorem 1 there); one draw gives a noisier estimate of the bound.
        """
        return (self._log_weights - math.log(self.draws)).float()


def log_weight(posterior: DiagonalGaussian, normal: Tensor, log_likelihood_nats: Tensor) -> Tensor:
    """log p(x, z) − log q(z|x), (B,), at a draw in normal coordinates: Burda et al. 2016, equation (7).

    Both densities of z are those of the normal coordinates; the transform to the prior cancels from their ratio.
    """
    return log_likelihood_nats + StandardNormal().log_prob(normal) - posterior.log_prob(normal)


def bits_per_dimension(nats: Tensor, image_shape: tuple[int, int, int]) -> Tensor:
    """−log₂ p(x) for each of an image's C·H·W values, of log p(x) or a bound of it in nats.

    It means something for the probability of 8-bit pixels alone: for a discretised likelihood.
    """
    return -nats / (math.prod(image_shape) * math.log(2))
