"""The bound of images by given noise, for tests that compare it with values known by other means."""

from __future__ import annotations

from torch import Tensor

from model_store.vae import VAE, Bound, Estimate


def bound_of(model: VAE, images: Tensor, *noises: Tensor) -> Bound:
    """The bound of `images` by one posterior draw from each of the `noises`, which are (B, *latent_shape)."""
    estimate = Estimate(model.posterior(images), model.prior)
    for noise in noises:
        drawn = estimate.posterior.sample(noise)
        estimate.add(drawn, model.decode(model.prior.latents_of(drawn)).log_prob(images))
    return estimate.bound
