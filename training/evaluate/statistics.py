"""The score statistics of many images under a model, and their quantiles over normal images."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from model_store import VAE, LatentSummary, ScoreQuantiles
from model_store.complexity import codec_nats
from model_store.score_statistics import Numbers, Statistics, latent_distance, quantiles_of
from model_store.vae import Estimate
from model_store.vae.pixels import to_images
from model_store.vae.scoring_protocol import (
    binarised_for_scoring,
    describe_protocol,
    describe_seed,
    posterior_noise,
)

from .. import console
from ..errors import NotFinite
from .bounds import batches_of

_PIXELS = 2_000_000  # of which the quantiles are taken: evenly taken from all of them


@dataclass(frozen=True)
class Scored:
    """The statistics of N images, some of the errors of their pixels in nats, and the words for the protocol."""

    statistics: Statistics
    pixel_nats: Numbers
    protocol: str

    def quantiles(self, images: str) -> ScoreQuantiles:
        """The quantiles of all statistics and of the pixels' errors; `images` are words for images that are normal."""
        found = {name: quantiles_of(numbers) for name, numbers in vars(self.statistics).items() if numbers is not None}
        scores = ScoreQuantiles(
            **found, pixel_nats=quantiles_of(self.pixel_nats), protocol=f"{images}, {self.protocol}"
        )
        ranks = scores.two_sided_ranks(self.statistics.elbo_nats)
        return scores.model_copy(update={"typicality": quantiles_of(ranks)})


@torch.inference_mode()
def scored(model: VAE, pixels: Tensor, latents: LatentSummary | None, draws: int = 1) -> Scored:
    """Score uint8 pixels (N, C, H, W) as the service does where a client gives no seed: all get the same noise.

    `latents` are of the normal images; without them the distance of the latents is left out.

    Raises:
        NoPosterior: the model has no posterior distribution.
        NotFinite: a score is infinite or NaN.
    """
    config, device = model.config, model.device
    parts = batches_of(config, pixels)
    found: list[Statistics] = []
    errors: list[Numbers] = []
    every = max(1, len(pixels) * config.image_shape[1] * config.image_shape[2] // _PIXELS)
    for part in console.track(parts, len(parts), "scores"):
        binarised = binarised_for_scoring(config, part.cpu(), None)
        images = to_images(binarised.to(device))
        estimate = Estimate(model.posterior(images), model.prior)
        pixel_nats = images.new_zeros(len(images), *images.shape[2:])
        for number in range(draws):
            noise = posterior_noise(None, number, len(images), config.latent_shape).to(device)
            drawn = estimate.posterior.sample(noise)
            log_likelihoods = model.decode(model.prior.latents_of(drawn)).log_prob_of_pixels(images)
            estimate.add(drawn, log_likelihoods.flatten(1).sum(1))
            pixel_nats -= log_likelihoods / draws
        errors.append(pixel_nats.flatten()[::every].double().cpu().numpy())
        found.append(_statistics(estimate, binarised, latents))
    together = _together(found)
    if not np.isfinite(together.elbo_nats).all():
        raise NotFinite(len(pixels))
    protocol = f"{describe_protocol(config)}, K = {draws} posterior draws, {describe_seed(None)}"
    return Scored(together, np.concatenate(errors), protocol)


def _statistics(estimate: Estimate, binarised: Tensor, latents: LatentSummary | None) -> Statistics:
    bound, means = estimate.bound, estimate.posterior.mean.flatten(1).double().cpu().numpy()
    terms = (bound.elbo_nats, bound.log_likelihood_nats, bound.kl_nats)
    elbo, likelihood, kl = (term.double().cpu().numpy() for term in terms)
    distance = None if latents is None else latent_distance(means, latents.mean, latents.standard_deviation)
    return Statistics(elbo, likelihood, kl, distance, elbo + codec_nats(binarised.numpy()))


def _together(parts: list[Statistics]) -> Statistics:
    names = [name for name, numbers in vars(parts[0]).items() if numbers is not None]
    return Statistics(**{name: np.concatenate([getattr(part, name) for part in parts]) for name in names})
