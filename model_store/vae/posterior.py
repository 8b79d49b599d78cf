"""The approximate posterior q(z|x) that an encoder gives, in its own coordinates (see `priors.py`)."""

from __future__ import annotations

import math
from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class DiagonalGaussian:
    """A Gaussian with a diagonal covariance for each image; `mean` and `log_variance` are (B, *latent_shape)."""

    mean: Tensor
    log_variance: Tensor

    def sample(self, noise: Tensor) -> Tensor:
        """Latents z = μ + σ ε for standard normal noise ε (Kingma and Welling 2014, section 2.4)."""
        return self.mean + (0.5 * self.log_variance).exp() * noise

    def repeated(self, times: int) -> DiagonalGaussian:
        """The posterior of a batch that is repeated as a whole: all images, then all images again."""
        ones = (1,) * (self.mean.ndim - 1)
        return DiagonalGaussian(self.mean.repeat(times, *ones), self.log_variance.repeat(times, *ones))

    def log_prob(self, latents: Tensor) -> Tensor:
        """log q(z|x) in nats, (B,)."""
        squared = (latents - self.mean).square() * (-self.log_variance).exp()
        return -0.5 * (squared + self.log_variance + math.log(2 * math.pi)).flatten(1).sum(1)

    def kl_nats(self) -> Tensor:
        """KL(q(z|x) ‖ N(0, I)) in nats, (B,): the KL to every prior that is not learned."""
        return self.kl_nats_per_dimension().flatten(1).sum(1)

    def kl_nats_per_dimension(self) -> Tensor:
        """KL(N(μ, σ²) ‖ N(0, 1)) of each dimension, (B, *latent_shape): Kingma and Welling 2014, appendix B."""
        mu, log_var = self.mean, self.log_variance
        return 0.5 * (mu.square() + log_var.exp() - log_var - 1)


@dataclass(frozen=True)
class Point:
    """One latent for each image, (B, *latent_shape), without a distribution, as a plain autoencoder gives it."""

    mean: Tensor

    @property
    def log_variance(self) -> None:
        """None: a point has no variance."""
        return None

    def sample(self, noise: Tensor) -> Tensor:  # noqa: ARG002  # a posterior's method
        """The point itself; the noise is ignored."""
        return self.mean
