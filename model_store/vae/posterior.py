"""What an encoder says of an image: the approximate posterior q(z|x) = N(mean, exp(log_variance) I)."""

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

    def log_prob(self, latents: Tensor) -> Tensor:
        """log q(z|x) in nats, (B,)."""
        squared = (latents - self.mean).square() * (-self.log_variance).exp()
        return -0.5 * (squared + self.log_variance + math.log(2 * math.pi)).flatten(1).sum(1)

    def kl_nats(self) -> Tensor:
        """KL(q(z|x) ‖ N(0, I)) in nats, (B,): Kingma and Welling 2014, appendix B, with its sign turned."""
        mu, log_var = self.mean, self.log_variance
        return 0.5 * (mu.square() + log_var.exp() - log_var - 1).flatten(1).sum(1)
