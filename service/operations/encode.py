"""Encode: images → latents."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from model_store.vae import Point
from model_store.vae.family import ImageShape
from model_store.vae.noise import derived_seed

from .noise import draw_seed, normal_noise
from .session import Session

Draw = Literal["mean", "sample"]


@dataclass(frozen=True)
class Encoding:
    """Latents of images, and the posterior they come from, in its own coordinates; all (B, *latent_shape).

    The log-variance is None for a plain autoencoder. The seed is None where nothing was drawn.
    """

    latents: Tensor
    mean: Tensor
    log_variance: Tensor | None
    seed: int | None


def held_latents(session: Session) -> int:
    """How many arrays of latents an encoding takes at most while it is made and written."""
    return 4 if session.config.is_posterior_a_point else 8  # a distribution has two, and a draw has noise


def admit_encode(session: Session, counts: Mapping[ImageShape, int]) -> None:
    """Reserve memory to encode a number of images of each shape (C, H, W)."""
    session.admit_each(counts, latents=held_latents(session), value_bytes=2)


async def encode(
    session: Session, pixels: Tensor, *, draw: Draw = "mean", seed: int | None = None, first: int = 0
) -> Encoding:
    """Latents of uint8 pixels (B, C, H, W): the posterior's mean, or a draw from it.

    The mean needs no seed, and a point is its own mean. A draw depends on the seed, on `first`, the number of
    the first of these images in the request, and on the place behind it.

    Raises:
        NotSupportedByModel: the model has no encoder.
        WrongShape, TooLarge: the images do not fit the model or the limits.
        AnswerMemoryFull, QueueFull, Unavailable: the service has no capacity now.
    """
    session.check_can("encode")
    admit_encode(session, {session.limits.check_images(session.model, pixels): len(pixels)})
    posterior = await session.encode_raw(pixels)
    mean = posterior.mean
    if draw == "mean" or isinstance(posterior, Point):
        return Encoding(session.prior.latents_of(mean), mean, posterior.log_variance, seed=None)
    seed = draw_seed() if seed is None else seed
    # images of another shape have a stream of their own, or noise for all images before them would be drawn too
    stream = derived_seed(seed, f"image {first}") if first else seed
    drawn = posterior.sample(await normal_noise(stream, *mean.shape))
    return Encoding(session.prior.latents_of(drawn), mean, posterior.log_variance, seed)
