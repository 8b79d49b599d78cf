"""Decode: latents → images."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from model_store.vae.family import ImageShape

from .session import PIXEL_BYTES, PixelType, Session


def admit_decode(session: Session, counts: Mapping[ImageShape, int], pixel_type: PixelType) -> None:
    """Reserve memory to decode a number of images of each shape (C, H, W)."""
    session.admit_each(counts, latents=4, value_bytes=2 * PIXEL_BYTES[pixel_type])


async def decode(session: Session, latents: Tensor, *, pixel_type: PixelType = "float32") -> Tensor:
    """Images (B, C, H, W) from latents float32 (B, *latent_shape).

    Raises:
        WrongShape, BadValue, TooLarge: the latents do not fit the model or the limits.
        AnswerMemoryFull, QueueFull, Unavailable: the service has no capacity now.
    """
    image_shape = session.limits.check_latents(session.model, latents)
    admit_decode(session, {image_shape: len(latents)}, pixel_type)
    return await session.images_of(latents, pixel_type)
