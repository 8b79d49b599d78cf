"""The bound of images by given noise, for tests that compare it with values known by other means."""

from __future__ import annotations

from torch import Tensor

from model_store.vae import VAE, Bound, Estimate


def bound_of(model: VAE, images: Tensor, *noises: Tensor) -> Bound:
    """The bound of `images` by one posterior draw from each of the `noises`, which are (B, *latent_shape)."""
    estimate = Estimate(model.posterior(images))
    for noise in noises:
        normal = estimate.posterior.sample(noise)
        estimate.add(normal, model.decode(model.prior.from_normal(normal)).log_prob(images))
    return estimate.bound
