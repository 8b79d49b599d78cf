"""The training objective. The bound itself is defined in `model_store.vae.elbo`.

Each family of models has its objective, a number of nats per image that training raises:

- a variational autoencoder: the evidence lower bound, or the tighter importance-weighted one;
- a plain autoencoder: log p(x|z) at the encoder's point;
- a generator without an encoder: log p(x), from draws of the prior.
"""

from __future__ import annotations

import math
from typing import Annotated, NamedTuple

import torch
from pydantic import Field
from torch import Tensor

from model_store import VAE, VAEConfig
from model_store.vae import Prior, Record, StandardNormal
from model_store.vae.elbo import log_weight
from model_store.vae.likelihoods import Gaussian, Likelihood

# A prior that decides from the first step follows the posteriors wherever they go, and nothing keeps unused dimensions
# small, whose noise the decoder reads: docs/results.md, "A learned prior", has an ELBO that was 44 nats lower.
PRIOR_FROM_FRACTION = 0.5


class ObjectiveRecipe(Record):
    """Changes to the bound that help training. The reported number is the bound without them.

    But a deviation that is fitted to each batch counts in the number of the training images.
    """

    kl_weight: Annotated[float, Field(ge=0)] = Field(
        default=1.0,
        description="the KL's weight, β of Higgins et al. 2017; above 1 it pulls the posterior to the prior",
    )
    kl_warmup_fraction: Annotated[float, Field(ge=0, le=1)] = Field(
        default=0.0,
        description="the part of the run in which the KL's weight rises from 0 (Sønderby et al. 2016, section 2.3)",
    )
    free_nats: Annotated[float, Field(ge=0)] = Field(
        default=0.0, description="the KL of each latent dimension that costs nothing (Kingma et al. 2016, equation 16)"
    )
    draws: Annotated[int, Field(ge=1, le=10_000)] = Field(
        default=1,
        description="posterior draws of each image (L of Kingma and Welling 2014); without an encoder, prior draws",
    )
    importance_weighted: bool = Field(
        default=False,
        description="train on the importance-weighted bound of the draws (Burda et al. 2016) instead of the ELBO",
    )
    fits_deviation: bool = Field(
        default=False,
        description="the likelihood's standard_deviation becomes the root of the mean squared error: in each step that "
        "of the batch, in validation and in the published model that of the training images (Rybkin et al. 2021). The "
        "number in the recipe does not count",
    )

    prior_from_fraction: Annotated[
        float, Field(ge=0, le=1, exclude_if=lambda fraction: fraction == PRIOR_FROM_FRACTION)
    ] = Field(
        default=PRIOR_FROM_FRACTION,
        description="the part of the run after which the KL is to a learned prior; before, it is to N(0, I), and the "
        "prior learns from the draws without a pull on them",
    )


class Objective(NamedTuple):
    """The loss that a step minimises, and the mean objective of its images in nats, without the recipe's changes."""

    loss: Tensor
    nats: Tensor


def name(config: VAEConfig, objective: ObjectiveRecipe) -> str:
    """The name of the objective for progress bars and figures."""
    if "encode" not in config.can:
        return f"log p(x) by {objective.draws} draws"
    if "score" not in config.can:
        return "log p(x|z)"
    return f"IW-{objective.draws}" if objective.importance_weighted else "ELBO"


def noise_shape(config: VAEConfig, objective: ObjectiveRecipe, images: int) -> tuple[int, ...]:
    """The shape of the standard normal noise of a step: draws for each image, or draws of the prior for all images."""
    if "encode" not in config.can:
        return (objective.draws, *config.latent_shape)
    return (objective.draws, images, *config.latent_shape)


def compute(model: VAE, images: Tensor, noise: Tensor, objective: ObjectiveRecipe, progress: float) -> Objective:
    """The objective of images (B, C, H, W) at `progress` (0 to 1) of a run, with noise of `noise_shape`."""
    if "encode" not in model.config.can:
        return _plain(log_evidence(model.decode(model.prior.sample(noise)), images))
    if "score" not in model.config.can:
        decoded = _calibrated(model.decode(model.encode(images).mean), images, objective)
        return _plain(decoded.log_prob(images))
    posterior = model.posterior(images)
    draws = len(noise)
    repeated = posterior.repeated(draws)
    drawn = repeated.sample(noise.flatten(0, 1))  # (L·B, *latent_shape), in the posterior's coordinates
    repeated_images = images.repeat(draws, 1, 1, 1)
    decoded = _calibrated(model.decode(model.prior.latents_of(drawn)), repeated_images, objective)
    log_likelihoods = decoded.log_prob(repeated_images)  # (L·B,)
    prior, lesson = _prior_now(model, drawn, objective, progress)
    if objective.importance_weighted:
        weights = log_weight(repeated, prior, drawn, log_likelihoods).view(draws, -1)
        nats = (weights.logsumexp(0) - math.log(draws)).mean()
        return Objective(lesson - nats, nats)
    reconstruction = log_likelihoods.mean()
    if prior.is_learned:
        kl = kl_with_free_nats = (repeated.log_prob(drawn) - prior.log_prob(drawn)).mean()
    else:
        kl = posterior.kl_nats().mean()
        # The KL of each dimension, a mean over the batch, counts as at least `free_nats`.
        kl_with_free_nats = posterior.kl_nats_per_dimension().mean(0).clamp(min=objective.free_nats).sum()
    return Objective(kl_weight(objective, progress) * kl_with_free_nats - reconstruction + lesson, reconstruction - kl)


def log_evidence(likelihood: Likelihood, images: Tensor) -> Tensor:
    """log 1/S Σ p(x|z_s), (B,), of images (B, C, H, W) under the likelihoods of S draws of the prior.

    Its mean is below log p(x), and far below if few draws land near an image's latents. An encoder avoids this.
    """
    each = torch.vmap(lambda image: likelihood.log_prob(image.expand_as(likelihood.mean)))(images)  # (B, S)
    return each.logsumexp(1) - math.log(each.shape[1])


def kl_weight(objective: ObjectiveRecipe, progress: float) -> float:
    """The KL's weight β at `progress` (0 to 1) of a run."""
    if progress >= objective.kl_warmup_fraction:
        return objective.kl_weight
    return objective.kl_weight * progress / objective.kl_warmup_fraction


def _prior_now(model: VAE, drawn: Tensor, objective: ObjectiveRecipe, progress: float) -> tuple[Prior, Tensor | float]:
    """The prior of the KL at `progress` of a run, and the loss by which a learned prior follows the draws."""
    if model.prior.is_learned and progress < objective.prior_from_fraction:
        return StandardNormal(), -model.prior.log_prob(drawn.detach()).mean()
    return model.prior, 0.0


def _calibrated(decoded: Likelihood, images: Tensor, objective: ObjectiveRecipe) -> Likelihood:
    if objective.fits_deviation and isinstance(decoded, Gaussian):
        return decoded.with_best_variance(images)
    return decoded


def _plain(nats: Tensor) -> Objective:
    return Objective(-nats.mean(), nats.mean())
