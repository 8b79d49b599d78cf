"""Exploring: the images between two, and those along single dimensions of the latents."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from ..compute import capabilities
from ..errors import BadValue, Meaningless
from ..inference.loader import ServedModel
from ..offload import offload
from ..telemetry.timings import Timings
from . import paths
from .engine import Engine, PixelType, noise
from .results import Grid

_ROWS = 8


async def interpolate(
    engine: Engine,
    model: ServedModel,
    pair: Tensor,
    timings: Timings,
    *,
    steps: int,
    path: paths.PathKind,
    pixel_type: PixelType = "float32",
) -> Grid:
    """The images between two, which are uint8 pixels (2, C, H, W) or latents float32 (2, *latent_shape).

    Raises:
        Meaningless: images, but the model has no encoder.
        WrongShape, BadValue, TooLarge: they are not two, or do not fit the model or the limits.
        Overloaded, Unavailable: not now.
    """
    engine.limits.check_count(model, steps)
    if len(pair) != 2:
        raise BadValue(f"An interpolation is between two images or latents, not {len(pair)}; send two.")
    start, end = await _ends(engine, model, pair, timings)
    normal = await offload(4 * steps * start.numel(), paths.between, start, end, steps, path)
    images = await engine.images_of(model, model.prior.from_normal(normal), timings, pixel_type)
    return Grid(images, columns=steps)


async def traverse(
    engine: Engine,
    model: ServedModel,
    timings: Timings,
    *,
    dims: Sequence[int] | None,
    steps: int,
    span: float,
    seed: int | None = None,
    pixel_type: PixelType = "float32",
) -> Grid:
    """One latent, moved along some dimensions, a row each: the prior's middle, or with a seed a draw from it.

    Without `dims` it moves along those of the largest KL in the card, or the first ones where the card has none.

    Raises:
        Meaningless: the model has neither a prior nor, in its card, statistics of its latents.
        BadValue, TooLarge: a dimension that there is not, or more images than the limits allow.
        Overloaded, Unavailable: not now.
    """
    dims = _telling_dims(model) if dims is None else dims
    engine.limits.check_count(model, steps * len(dims))
    values = math.prod(model.card.model.latent_shape)
    if wrong := [dim for dim in dims if not 0 <= dim < values]:
        raise BadValue(f"There is no dimension {wrong[0]} in {model.version}; take 0 to {values - 1}.")
    centre, spread = await _middle(model, seed)
    normal = await offload(4 * steps * len(dims) * values, paths.along, centre, spread, dims, steps, span)
    images = await engine.images_of(model, model.prior.from_normal(normal), timings, pixel_type)
    return Grid(images, columns=steps, seed=seed)


async def _ends(engine: Engine, model: ServedModel, pair: Tensor, timings: Timings) -> Tensor:
    """Two latents in normal coordinates: those of the images, or the ones that were sent."""
    if pair.dtype == torch.uint8:
        return (await engine.infer(model, pair, timings)).mean
    engine.limits.check_latents(model, pair)
    return model.prior.to_normal(pair)


def _telling_dims(model: ServedModel) -> list[int]:
    """The dimensions that tell most of an image: of the largest KL, or for points of the largest spread."""
    latents = model.card.latents
    if latents is None:
        return list(range(min(_ROWS, math.prod(model.card.model.latent_shape))))
    worth = latents.kl_nats or latents.standard_deviation
    return sorted(range(len(worth)), key=lambda dim: -worth[dim])[:_ROWS]


async def _middle(model: ServedModel, seed: int | None) -> tuple[Tensor, Tensor]:
    """A latent to begin with and how far one standard deviation goes, both (*latent_shape) in normal coordinates."""
    config = model.card.model
    if seed is not None:
        capabilities.check(config, model.version, "sample")
        return (await noise(seed, 1, config.latent_shape))[0], torch.ones(config.latent_shape)
    if capabilities.can(config, "sample"):
        return torch.zeros(config.latent_shape), torch.ones(config.latent_shape)
    if (latents := model.card.latents) is None:
        reason = "is a plain autoencoder whose card does not say where its latents lie"
        raise Meaningless(str(model.version), reason, "decode latents of your own")
    shape = config.latent_shape
    return torch.tensor(latents.mean).view(shape), torch.tensor(latents.standard_deviation).view(shape)
