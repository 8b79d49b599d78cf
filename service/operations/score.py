"""Score: the evidence lower bound of images, in nats. Posterior draws are made here and scored on the device."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import cast

import numpy as np
import torch
from torch import Tensor

from model_store import Card
from model_store.vae import Bound, DiagonalGaussian, Estimate, VAEConfig, bits_per_dimension
from model_store.vae.scoring_protocol import Binarise, binarised_for_scoring, describe_protocol, posterior_noise

from ..offload import offload
from .noise import draw_seed
from .session import Session

ROWS_PER_BATCH = 64  # repeated images; after each batch, other requests are computed
BATCH_BYTES = 16_777_216  # of repeated images and their draws, unless a single repetition has more


@dataclass(frozen=True)
class Score:
    """The bounds of images, and the protocol of the measurement.

    Bits per dimension are None for pixels that are not 8-bit. Percentiles, 0 to 100 among the model's own test images,
    are None where the card has no quantiles to compare with.
    """

    bound: Bound
    bits_per_dimension: Tensor | None
    percentile: list[float] | None
    protocol: str
    seed: int


async def score(
    session: Session,
    pixels: Tensor,
    *,
    importance_samples: int = 1,
    binarise: Binarise = "sample",
    seed: int | None = None,
) -> Score:
    """The bounds of uint8 pixels (B, C, H, W), by `importance_samples` posterior draws for each.

    Raises:
        NotSupportedByModel: the model has no posterior distribution.
        WrongShape, TooLarge: the images do not fit the model or the limits.
        AnswerMemoryFull, QueueFull, Unavailable: the service has no capacity now.
    """
    session.check_can("score")
    image_shape = session.limits.check_images(session.model, pixels)
    session.limits.check_draws(len(pixels), importance_samples)
    repeats = repeats_per_batch(session.model.card, len(pixels))
    # To binarise, pixels become float32 a few times. A draw is made, transformed and weighted.
    session.admit(len(pixels), image_shape, latents=4 + 10 * repeats, value_bytes=16 + 2 * repeats)
    seed = draw_seed() if seed is None else seed
    config = cast("VAEConfig", session.config)  # no other family can score
    known = await session.negatives_if_trained_so(pixels)
    binarised = await offload(pixels.nbytes, binarised_for_scoring, config, known, seed, binarise)
    estimate = Estimate(DiagonalGaussian(*await session.forward("encode", binarised)))
    for first in range(0, importance_samples, repeats):
        draws = range(first, min(first + repeats, importance_samples))
        size = len(draws) * (binarised.nbytes + 4 * estimate.posterior.mean.numel())
        normal = await offload(size, posterior_draws, estimate.posterior, draws, seed)
        repeated = await offload(size, binarised.repeat, len(draws), 1, 1, 1)
        (nats,) = await session.forward("score", repeated, session.prior.from_normal(normal))
        await offload(size, estimate.add, normal, nats)
    return _score(session.model.card, config, estimate, binarise, seed)


def repeats_per_batch(card: Card, images: int) -> int:
    """How often the images are repeated in one batch: as its rows and its memory allow, and at least once."""
    model = card.model
    image_bytes = 2 * math.prod(model.example_shape) + 40 * math.prod(model.example_latent_shape)
    return max(1, min(ROWS_PER_BATCH // images, BATCH_BYTES // (images * image_bytes)))


def posterior_draws(posterior: DiagonalGaussian, draws: range, seed: int) -> Tensor:
    """Draws in normal coordinates, (len(draws)·B, *latent_shape): all images of the first draw, then of the next."""
    count, *shape = posterior.mean.shape
    return torch.cat([posterior.sample(posterior_noise(seed, number, count, tuple(shape))) for number in draws])


def _score(card: Card, config: VAEConfig, estimate: Estimate, binarise: Binarise, seed: int) -> Score:
    bound = estimate.bound
    bits = bits_per_dimension(bound.elbo_nats, config.image_shape) if config.likelihood.is_8_bit else None
    # pixels cut at the middle score higher than drawn ones, and the card's quantiles are of drawn pixels
    is_comparable = binarise == "sample" or not config.likelihood.is_binary
    percentile = None
    if card.scores is not None and is_comparable:
        percentile = np.interp(bound.elbo_nats, card.scores.elbo_nats, np.arange(101.0)).tolist()
    return Score(
        bound=bound,
        bits_per_dimension=bits,
        percentile=percentile,
        protocol=f"{describe_protocol(config, binarise)}, K = {bound.draws} posterior draws, seed {seed}",
        seed=seed,
    )
