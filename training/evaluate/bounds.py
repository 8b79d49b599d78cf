"""Bounds, evidence and errors of a model, for each image.

Noise is drawn on the CPU from a seed, separately for each image. So two models on any two devices get the same noise,
and the service gives the same numbers for the same seed.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from model_store import VAE, VAEConfig
from model_store.vae import Bound, Estimate
from model_store.vae.noise import derived_seed, standard_normal
from model_store.vae.pixels import mean_squared_errors, to_images
from model_store.vae.scoring_protocol import binarised_for_scoring, posterior_noise

from .. import console
from ..objective import log_evidence

EVALUATION_SEED = 0
EVIDENCE_DRAWS = 1000

_BATCH_IMAGES = 500
_BATCH_NUMBERS = 2**26  # of the decoder
_EVIDENCE_NUMBERS = 2**24


@torch.inference_mode()
def score(model: VAE, pixels: Tensor, draws: int = 1, seed: int = EVALUATION_SEED) -> Bound:
    """The bounds of uint8 pixels (N, C, H, W), in float32; the memory does not grow with the draws.

    Raises:
        NoPosterior: the model has no posterior distribution.
    """
    device = model.device
    parts = batches_of(model.config, binarised_for_scoring(model.config, pixels.cpu(), seed))
    known = [Estimate(model.posterior(to_images(part.to(device))), model.prior) for part in parts]
    numbers = console.track(range(draws), draws, "posterior draws") if draws > 1 else range(draws)
    for number in numbers:
        noise = posterior_noise(seed, number, len(pixels), model.config.latent_shape)
        for part, estimate, epsilon in zip(parts, known, batches_of(model.config, noise), strict=True):
            drawn = estimate.posterior.sample(epsilon.to(device))
            likelihood = model.decode(model.prior.latents_of(drawn))
            estimate.add(drawn, likelihood.log_prob(to_images(part.to(device))))
    bounds = [estimate.bound for estimate in known]
    return Bound(
        _together(bound.log_likelihood_nats for bound in bounds),
        _together(bound.kl_nats for bound in bounds),
        _together(bound.importance_weighted_nats for bound in bounds),
        draws,
    )


@torch.inference_mode()
def evidence(model: VAE, pixels: Tensor) -> Tensor:
    """log p(x) of each image, (N,), estimated from draws of the prior; all images share the draws."""
    device = model.device
    noise = standard_normal(derived_seed(EVALUATION_SEED, "prior"), EVIDENCE_DRAWS, model.config.latent_shape).to(
        device
    )
    likelihood = model.decode(model.prior.sample(noise))
    together = max(1, _EVIDENCE_NUMBERS // (EVIDENCE_DRAWS * model.config.numbers_per_image))
    parts = torch.split(binarised_for_scoring(model.config, pixels.cpu(), EVALUATION_SEED), together)
    return _together(log_evidence(likelihood, to_images(part.to(device))) for part in parts)


@torch.inference_mode()
def point_likelihood(model: VAE, pixels: Tensor) -> Tensor:
    """log p(x|z) of each image at the encoder's point, (N,): not a bound, since a plain autoencoder has no ELBO."""
    device = model.device
    parts = batches_of(model.config, binarised_for_scoring(model.config, pixels.cpu(), EVALUATION_SEED))

    def likelihoods(images: Tensor) -> Tensor:
        return model.decode(model.prior.latents_of(model.encode(images).mean)).log_prob(images)

    return _together(likelihoods(to_images(part.to(device))) for part in parts)


@torch.inference_mode()
def squared_errors(model: VAE, pixels: Tensor) -> Tensor:
    """The mean squared error of each image's reconstruction from the mean of its latents, (N,); pixels in [0, 1]."""
    device = model.device

    def errors(part: Tensor) -> Tensor:
        images = to_images(part.to(device))
        remade = model.decode(model.prior.latents_of(model.encode(images).mean)).mean
        return mean_squared_errors(remade, images)

    return _together(errors(part) for part in batches_of(model.config, pixels))


def batches_of(config: VAEConfig, rows: Tensor) -> tuple[Tensor, ...]:
    """Rows, one for each image, in batches whose images a model computes at once."""
    images = min(_BATCH_IMAGES, max(1, _BATCH_NUMBERS // config.numbers_per_image))
    return torch.split(rows, images)


def _together(parts: Iterator[Tensor]) -> Tensor:
    return torch.cat([part.double().cpu() for part in parts])
