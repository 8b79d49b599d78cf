"""The evidence lower bound, in nats per image.

Training, evaluation and the service all take it from here, so that it is the same number in all three.
What is optimised is training's own matter.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from .model import VAE


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
    """
    posterior = model.encode(images)
    likelihood = model.decode(posterior.sample(noise))
    return Bound(likelihood.log_prob(images), posterior.kl_nats())
