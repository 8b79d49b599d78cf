"""Score: the evidence lower bound of images, in nats, and how unusual they are beside normal images.

Posterior draws are made here and scored on the device.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, NamedTuple, cast

import torch
from torch import Tensor

from model_store import Card, LatentSummary, ScoreQuantiles
from model_store.complexity import codec_nats
from model_store.score_statistics import STATISTICS, Statistic, Statistics, latent_distance
from model_store.vae import Bound, DiagonalGaussian, Estimate, VAEConfig, bits_per_dimension
from model_store.vae.scoring_protocol import (
    Binarise,
    binarised_for_scoring,
    describe_protocol,
    describe_seed,
    posterior_noise,
)

from ..errors import BadValue, NotSupportedByModel
from ..inference.served_model import ServedModel
from ..offload import offload
from .error_colours import coloured
from .session import Session

ROWS_PER_BATCH = 64  # repeated images; after each batch, other requests are computed
BATCH_BYTES = 16_777_216  # of repeated images and their draws, unless a single repetition has more
DEFAULT = "default"  # the name of the calibration that needs no parameter
CARDS, CARDS_DRAWS = "the model's own test images", 1

_CODEC_COST = 100  # how many times longer a lossless codec takes for a byte than arithmetic on arrays does


class Wish(NamedTuple):
    """How a client wants images to be judged.

    Attributes:
        calibration: the normal images with which they are compared; None is the calibration of the name `default`,
            else the test images of the model's card.
        statistic: by which an image is unusual.
        threshold: the percentile below which it is an anomaly; None does not ask.
        error_map: how the error of each pixel is wanted: in nats, or as colours; None does not want it.
    """

    calibration: str | None = None
    statistic: Statistic = "elbo"
    threshold: float | None = None
    error_map: Literal["nats", "colours"] | None = None


class NormalImages(NamedTuple):
    """The images with which others are compared: a name, their scores by a number of draws, and their latents."""

    name: str
    scores: ScoreQuantiles
    draws: int
    latents: LatentSummary | None


@dataclass(frozen=True)
class Score:
    """The bounds of images, and the protocol of the measurement.

    Bits per dimension are None for pixels that are not 8-bit. Percentiles are None where there are no quantiles to
    compare with: 0 to 100 for each statistic, near 0 for an unusual image. `error_map` is −log p of each pixel in nats,
    the mean over the draws, float32 (B, H, W), or its colours, uint8 (B, 3, H, W). `seed` is None where all images have
    had the same noise.
    """

    bound: Bound
    bits_per_dimension: Tensor | None
    latent_distance: list[float] | None
    percentiles: dict[Statistic, list[float] | None]
    are_anomalous: list[bool] | None
    compared_with: NormalImages | None
    error_map: Tensor | None
    protocol: str
    seed: int | None


async def score(
    session: Session,
    pixels: Tensor,
    *,
    importance_samples: int = 1,
    binarise: Binarise = "sample",
    seed: int | None = None,
    wish: Wish = Wish(),  # noqa: B008  # a named tuple never changes
) -> Score:
    """The bounds of uint8 pixels (B, C, H, W), by `importance_samples` posterior draws for each.

    Raises:
        NotSupportedByModel: the model has no posterior distribution, no such calibration, or no such quantiles.
        BadValue: anomalies are asked for, and the pixels are not binarised as the normal ones were.
        WrongShape, TooLarge: the images do not fit the model or the limits.
        AnswerMemoryFull, QueueFull, Unavailable: the service has no capacity now.
    """
    session.check_can("score")
    config = cast("VAEConfig", session.config)  # no other family can score
    normal = normal_images(session.model, config, binarise, wish)
    image_shape = session.limits.check_images(session.model, pixels)
    session.limits.check_draws(len(pixels), importance_samples)
    repeats = repeats_per_batch(session.model.card, len(pixels))
    # To binarise, pixels become float32 a few times. A draw is made, transformed and weighted. A map is float32.
    value_bytes = 16 + 2 * repeats + (4 * (repeats + 3) if wish.error_map else 0)
    session.admit(len(pixels), image_shape, latents=4 + 10 * repeats, value_bytes=value_bytes)
    known = await session.negatives_if_trained_so(pixels)
    binarised = await offload(pixels.nbytes, binarised_for_scoring, config, known, seed, binarise)
    estimate = Estimate(DiagonalGaussian(*await session.forward("encode", binarised)), session.prior)
    error_map = torch.zeros(len(pixels), *image_shape[1:]) if wish.error_map else None
    for first in range(0, importance_samples, repeats):
        draws = range(first, min(first + repeats, importance_samples))
        size = len(draws) * (binarised.nbytes + 4 * estimate.posterior.mean.numel())
        drawn = await offload(size, posterior_draws, estimate.posterior, draws, seed)
        repeated = await offload(size, binarised.repeat, len(draws), 1, 1, 1)
        latents = session.prior.latents_of(drawn)
        if error_map is None:
            (nats,) = await session.forward("score", repeated, latents)
        else:
            (maps,) = await session.forward("error_map", repeated, latents)
            nats = await offload(maps.nbytes, add_to_map, error_map, maps, importance_samples)
        await session.by_prior(session.prior, size, estimate.add, drawn, nats)
    found = await offload(_CODEC_COST * binarised.nbytes, statistics_of, estimate, binarised, normal)
    percentiles = {each: normal.scores.percentiles(each, found) if normal else None for each in STATISTICS}
    if error_map is not None and wish.error_map == "colours" and normal and normal.scores.pixel_nats:
        error_map = await offload(16 * error_map.nbytes, coloured, error_map, normal.scores.pixel_nats)
    wanted, bound = percentiles[wish.statistic], estimate.bound
    bits = bits_per_dimension(bound.elbo_nats, config.image_shape) if config.likelihood.is_8_bit else None
    words = [describe_protocol(config, binarise), f"K = {importance_samples} posterior draws", describe_seed(seed)]
    if normal and normal.draws != importance_samples:
        words.append(f"compared with scores of K = {normal.draws}")
    return Score(
        bound=bound,
        bits_per_dimension=bits,
        latent_distance=None if found.latent_distance is None else found.latent_distance.tolist(),
        percentiles=percentiles,
        are_anomalous=[each < wish.threshold for each in wanted or []] if wish.threshold is not None else None,
        compared_with=normal,
        error_map=error_map,
        protocol=", ".join(words),
        seed=seed,
    )


def add_to_map(error_map: Tensor, maps: Tensor, importance_samples: int) -> Tensor:
    """Add the mean error of some draws to a map (B, H, W); returns log p(x|z) of each draw, (L·B,)."""
    error_map -= maps.view(-1, *error_map.shape).sum(0) / importance_samples
    return maps.flatten(1).sum(1)


def repeats_per_batch(card: Card, images: int) -> int:
    """How often the images are repeated in one batch: as its rows and its memory allow, and at least once."""
    model = card.model
    image_bytes = 2 * math.prod(model.example_shape) + 40 * math.prod(model.example_latent_shape)
    return max(1, min(ROWS_PER_BATCH // images, BATCH_BYTES // (images * image_bytes)))


def posterior_draws(posterior: DiagonalGaussian, draws: range, seed: int | None) -> Tensor:
    """Draws from the posterior, (len(draws)·B, *latent_shape): all images of the first draw, then of the next."""
    count, *shape = posterior.mean.shape
    return torch.cat([posterior.sample(posterior_noise(seed, number, count, tuple(shape))) for number in draws])


def normal_images(model: ServedModel, config: VAEConfig, binarise: Binarise, wish: Wish) -> NormalImages | None:
    """The normal images that a client wants to compare with; None if it does not insist and there are none.

    Raises:
        NotSupportedByModel: there is no such calibration, or it has no quantiles of that statistic.
        BadValue: anomalies are asked for, and the pixels are not binarised as the normal ones were.
    """
    found = _calibration_or_card(model, wish.calibration)
    # pixels cut at the middle score higher than drawn ones, and the quantiles are of drawn pixels
    if binarise != "sample" and config.likelihood.is_binary:
        if wish.threshold is not None or wish.statistic != "elbo" or wish.error_map == "colours":
            raise BadValue(
                "The pixels of the normal images were drawn, so pixels cut at the middle cannot be compared with them; "
                "use binarise=sample."
            )
        return None
    is_needed = wish.threshold is not None or wish.statistic != "elbo"
    measure = f"measure normal images: python -m training.calibrate {model.name} --data PATH --name NAME"
    if is_needed and (found is None or not found.scores.has(wish.statistic)):
        raise NotSupportedByModel(model.name, f"has no quantiles of the statistic {wish.statistic}", measure)
    if wish.error_map == "colours" and (found is None or found.scores.pixel_nats is None):
        remedy = f"{measure}; or ask for the map with format=npy"
        raise NotSupportedByModel(
            model.name, "has no quantiles of the errors of pixels, which give the colours", remedy
        )
    return found


def _calibration_or_card(model: ServedModel, name: str | None) -> NormalImages | None:
    chosen = model.calibrations.get(name or DEFAULT)
    if chosen is not None:
        return NormalImages(name or DEFAULT, chosen.scores, chosen.draws, chosen.latents)
    if name is not None:
        there = f"it has {', '.join(model.calibrations)}" if model.calibrations else "it has none"
        remedy = f"make one: python -m training.calibrate {model.name} --data PATH --name {name}"
        raise NotSupportedByModel(model.name, f"has no calibration {name} ({there})", remedy)
    if model.card.scores is None:
        return None
    return NormalImages(CARDS, model.card.scores, CARDS_DRAWS, model.card.latents)


def statistics_of(estimate: Estimate, binarised: Tensor, normal: NormalImages | None) -> Statistics:
    """The statistics of images. The lossless codec is asked only if there are quantiles to compare with."""
    bound = estimate.bound
    distance = corrected = None
    if normal and normal.latents:
        means = estimate.posterior.mean.flatten(1).double().numpy()
        distance = latent_distance(means, normal.latents.mean, normal.latents.standard_deviation)
    if normal and normal.scores.has("complexity"):
        corrected = bound.elbo_nats.double().numpy() + codec_nats(binarised.numpy())
    terms = (bound.elbo_nats, bound.log_likelihood_nats, bound.kl_nats)
    elbo, likelihood, kl = (term.double().numpy() for term in terms)
    return Statistics(elbo, likelihood, kl, distance, corrected)
