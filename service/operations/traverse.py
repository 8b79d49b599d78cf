"""Traverse: the images along single dimensions of the latents."""

from __future__ import annotations

import heapq
import math
from collections.abc import Sequence

import torch
from torch import Tensor

from model_store import Card, LatentSummary

from ..errors import BadValue, NotSupportedByModel
from ..offload import offload
from . import latent_paths
from .noise import normal_noise
from .session import PIXEL_BYTES, PixelType, Session

DEFAULT_DIMENSIONS = 8


async def traverse(
    session: Session,
    *,
    dims: Sequence[int] | None,
    steps: int,
    span: float,
    seed: int | None = None,
    pixel_type: PixelType = "float32",
) -> Tensor:
    """Images (len(dims)·steps, C, H, W) of one latent that is moved along some dimensions, a row of images for each.

    The latent is the middle of the prior, or with a seed a draw from it.

    Without `dims` the latent moves along the dimensions of the largest KL in the card, or along the first dimensions
    where the card has none.

    Raises:
        NotSupportedByModel: the model has no prior, and its card has no statistics of its latents.
        BadValue, TooLarge: a dimension that does not exist, or more images than the limits allow.
        AnswerMemoryFull, QueueFull, Unavailable: the service has no capacity now.
    """
    session.check_can("traverse")
    model, config = session.model, session.config
    dims = informative_dimensions(model.card) if dims is None else dims
    session.admit(steps * len(dims), config.example_shape, latents=4, value_bytes=2 * PIXEL_BYTES[pixel_type])
    values = math.prod(config.example_latent_shape)
    if wrong := [dim for dim in dims if not 0 <= dim < values]:
        raise BadValue(f"There is no dimension {wrong[0]} in {model.version}; take 0 to {values - 1}.")
    centre, spread = await _centre_and_spread(session, seed)
    moved = await offload(4 * steps * len(dims) * values, latent_paths.along, centre, spread, dims, steps, span)
    return await session.images_of(session.prior.latents_of(moved), pixel_type)


def informative_dimensions(card: Card) -> list[int]:
    """The `DEFAULT_DIMENSIONS` dimensions of the largest KL; of a plain autoencoder, of the largest spread.

    They are the first dimensions of a model whose card has no statistics of its latents.
    """
    latents = card.latents
    if latents is None:
        return list(range(min(DEFAULT_DIMENSIONS, math.prod(card.model.example_latent_shape))))
    weights = latents.kl_nats or latents.standard_deviation
    # a card has 100,000 of them at most: a sort took 40 ms of each request
    return heapq.nlargest(DEFAULT_DIMENSIONS, range(len(weights)), key=weights.__getitem__)


async def _centre_and_spread(session: Session, seed: int | None) -> tuple[Tensor, Tensor]:
    """A latent to start from, and the length of one standard deviation, both (*latent_shape).

    They are in the posterior's coordinates. Where the latents have a learned distribution, the card knows their
    standard deviation; without the card's numbers, it counts as 1.
    """
    card, version = session.model.card, session.model.version
    shape = card.model.example_latent_shape
    if seed is not None or "sample" in card.model.can:
        prior = session.sampler()
        noise = torch.zeros(1, *shape) if seed is None else await normal_noise(seed, 1, *shape)
        (centre,) = await session.by_prior(prior, noise.nbytes, prior.from_normal, noise)
        return centre, _spread(card.latents, shape) if prior.is_learned and card.latents else torch.ones(shape)
    if card.latents is None:
        reason = "is a plain autoencoder whose card does not say where its latents lie"
        raise NotSupportedByModel(str(version), reason, "decode latents of your own")
    return torch.tensor(card.latents.mean).view(shape), _spread(card.latents, shape)


def _spread(latents: LatentSummary, shape: tuple[int, ...]) -> Tensor:
    """The standard deviation of each value of the latents of test images."""
    return torch.tensor(latents.standard_deviation).view(shape)
