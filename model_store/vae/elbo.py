"""The evidence lower bound and the importance-weighted bound, in nats per image.

Training, evaluation and the service take them from here, so that all three give the same numbers. The loss that a
training step minimises is in `training.objective`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from .posterior import DiagonalGaussian
from .priors import Prior


@dataclass(frozen=True)
class Bound:
    """The evidence lower bound of each image, its two terms, and the tighter bound; all (B,) in nats.

    `draws` is the number of posterior draws of each image by which the bounds were estimated.
    """

    log_likelihood_nats: Tensor
    kl_nats: Tensor
    importance_weighted_nats: Tensor
    draws: int

    @property
    def elbo_nats(self) -> Tensor:
        """E_q[log p(x|z)] − KL(q(z|x) ‖ p(z)) ≤ log p(x), (B,): Kingma and Welling 2014, equation (3)."""
        return self.log_likelihood_nats - self.kl_nats


class Estimate:
    """An estimate of the bound of B images, which `add` refines with further draws from their posterior.

    Any number of draws fits into memory. Sums are kept in float64: the sum of five thousand float32 numbers would be
    wrong by a tenth of a nat.
    """

    def __init__(self, posterior: DiagonalGaussian, prior: Prior) -> None:
        self.posterior = posterior
        self.prior = prior
        self._draws = 0
        self._log_likelihoods = torch.zeros(len(posterior.mean), dtype=torch.float64, device=posterior.mean.device)
        self._sums = torch.zeros_like(self._log_likelihoods)
        self._log_sums = torch.full_like(self._log_likelihoods, -torch.inf)

    def add(self, drawn: Tensor, log_likelihood_nats: Tensor) -> None:
        """Add L draws of every image: the posterior's coordinates (L·B, *latent_shape) and log p(x|z) (L·B,).

        All images of the first draw come first, then all images of the second.
        """
        draws = len(drawn) // len(self._log_sums)
        weights = log_weight(self.posterior.repeated(draws), self.prior, drawn, log_likelihood_nats)
        weights = weights.double().view(draws, -1)
        self._log_likelihoods = self._log_likelihoods + log_likelihood_nats.double().view(draws, -1).sum(0)
        self._sums = self._sums + weights.sum(0)
        self._log_sums = self._log_sums.logaddexp(weights.logsumexp(0))
        self._draws += draws

    @property
    def bound(self) -> Bound:
        """The bounds from the draws so far.

        The log-likelihood is the mean of the draws, the KL is exact: Kingma and Welling 2014, equation (7). The KL to a
        learned prior has no closed form, and is a mean of the same draws: the ELBO is then the mean of their weights,
        equation (6) there. The importance-weighted bound is log 1/K Σ p(x, z_k)/q(z_k|x): Burda et al. 2016, equation
        (8). The mean of it rises with K towards log p(x) (theorem 1 there); one draw gives a noisier estimate of the
        ELBO.
        """
        by_draws = ((self._log_likelihoods - self._sums) / self._draws).float()
        return Bound(
            log_likelihood_nats=(self._log_likelihoods / self._draws).float(),
            kl_nats=by_draws if self.prior.is_learned else self.posterior.kl_nats(),
            importance_weighted_nats=(self._log_sums - math.log(self._draws)).float(),
            draws=self._draws,
        )


def log_weight(posterior: DiagonalGaussian, prior: Prior, drawn: Tensor, log_likelihood_nats: Tensor) -> Tensor:
    """log p(x, z) − log q(z|x), (B,), at a draw in the posterior's coordinates: Burda et al. 2016, equation (7).

    Both densities are densities in these coordinates; a transform to the latents cancels from their ratio.
    """
    return log_likelihood_nats + prior.log_prob(drawn) - posterior.log_prob(drawn)


def bits_per_dimension(nats: Tensor, image_shape: tuple[int, int, int]) -> Tensor:
    """−log₂ p(x) for each of the C·H·W values of an image, from log p(x) or a bound of it in nats.

    Only the probability of 8-bit pixels can be given in bits per dimension: the likelihood must be discretised.
    """
    return -nats / (math.prod(image_shape) * math.log(2))
