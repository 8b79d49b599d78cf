"""Scoring: what a model thinks of images, in nats. Posterior draws are made here and judged on the device."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from model_store import VAEConfig
from model_store.vae import BernoulliConfig, DiagonalGaussian, DiscretisedLogisticConfig, Estimate, bits_per_dimension
from model_store.vae.scoring_protocol import Binarise, draw, judged, words

from ..compute import capabilities
from ..inference.loader import ServedModel
from ..offload import offload
from ..telemetry.timings import Timings
from .engine import Engine, draw_seed
from .results import Score

_ROWS = 64  # of one batch; after each, other callers have their turn


async def score(
    engine: Engine,
    model: ServedModel,
    pixels: Tensor,
    timings: Timings,
    *,
    importance_samples: int = 1,
    binarise: Binarise = "sample",
    seed: int | None = None,
) -> Score:
    """The bounds of uint8 pixels (B, C, H, W), by `importance_samples` posterior draws for each.

    Raises:
        Meaningless: the model has no posterior distribution.
        WrongShape, TooLarge: the images do not fit the model or the limits.
        Overloaded, Unavailable: not now.
    """
    capabilities.check(model.card.model, model.version, "score")
    engine.limits.check_images(model, pixels)
    engine.limits.check_draws(len(pixels), importance_samples)
    seed = draw_seed() if seed is None else seed
    as_judged = await offload(pixels.nbytes, judged, model.card.model, pixels, seed, binarise)
    known = Estimate(DiagonalGaussian(*await engine.ask(model, "encode", timings, as_judged)))
    at_once = engine.limits.at_once(model, len(pixels), _ROWS)
    for first in range(0, importance_samples, at_once):
        draws = range(first, min(first + at_once, importance_samples))
        await _take_in(engine, model, as_judged, known, draws, seed, timings)
    return _score(model, known, binarise, seed)


async def _take_in(
    engine: Engine, model: ServedModel, pixels: Tensor, known: Estimate, draws: range, seed: int, timings: Timings
) -> None:
    """Some posterior draws of all images, judged together."""
    size = len(draws) * (pixels.nbytes + 4 * known.posterior.mean.numel())
    normal = await offload(size, _drawn, known.posterior, draws, seed)
    repeated = await offload(size, pixels.repeat, len(draws), 1, 1, 1)
    (nats,) = await engine.ask(model, "score", timings, repeated, model.prior.from_normal(normal))
    await offload(size, known.add, normal, nats)


def _drawn(posterior: DiagonalGaussian, draws: range, seed: int) -> Tensor:
    """Draws in normal coordinates, (len(draws)·B, *latent_shape), one after the other."""
    count, *shape = posterior.mean.shape
    return torch.cat([posterior.sample(draw(seed, number, count, tuple(shape))) for number in draws])


def _score(model: ServedModel, known: Estimate, binarise: Binarise, seed: int) -> Score:
    bound, config = known.bound, model.card.model
    is_8_bit = isinstance(config.likelihood, DiscretisedLogisticConfig)
    return Score(
        elbo_nats=bound.elbo_nats,
        log_likelihood_nats=bound.log_likelihood_nats,
        kl_nats=bound.kl_nats,
        importance_weighted_nats=known.importance_weighted_nats,
        bits_per_dimension=bits_per_dimension(bound.elbo_nats, config.image_shape) if is_8_bit else None,
        percentile=_percentile(model, bound.elbo_nats) if _is_usual(config, binarise) else None,
        protocol=f"{words(config, binarise)}, K = {known.draws} posterior draws, seed {seed}",
        seed=seed,
    )


def _is_usual(config: VAEConfig, binarise: Binarise) -> bool:
    """Whether images were judged as those of the card's quantiles: cut at the middle they score higher than drawn."""
    return binarise == "sample" or not isinstance(config.likelihood, BernoulliConfig)


def _percentile(model: ServedModel, elbo_nats: Tensor) -> list[float] | None:
    usual = model.card.scores
    return None if usual is None else np.interp(elbo_nats, usual.elbo_nats, np.arange(101.0)).tolist()
