"""Interpolate: the images on a path between two images or latents."""

from __future__ import annotations

import torch
from torch import Tensor

from ..errors import BadValue
from ..offload import offload
from . import latent_paths
from .session import PIXEL_BYTES, PixelType, Session


async def interpolate(
    session: Session, pair: Tensor, *, steps: int, path: latent_paths.PathKind, pixel_type: PixelType = "float32"
) -> Tensor:
    """Images (steps, C, H, W) on a path between two uint8 images (2, C, H, W) or float32 latents (2, *latent_shape).

    Raises:
        NotSupportedByModel: the ends are images, but the model has no encoder.
        WrongShape, BadValue, TooLarge: there are not exactly two ends, or they do not fit the model or the limits.
        AnswerMemoryFull, QueueFull, Unavailable: the service has no capacity now.
    """
    if len(pair) != 2:
        raise BadValue(f"An interpolation is between two images or latents, not {len(pair)}; send two.")
    are_images = pair.dtype == torch.uint8
    image_shape = (session.limits.check_images if are_images else session.limits.check_latents)(session.model, pair)
    session.admit(steps, image_shape, latents=6, value_bytes=2 + 2 * PIXEL_BYTES[pixel_type])
    prior = session.prior
    ends = (await session.encode_raw(pair)).mean if are_images else prior.coordinates_of(pair)
    start, end = await session.by_prior(prior, ends.nbytes, prior.to_normal, ends)
    normal = await offload(4 * steps * start.numel(), latent_paths.between, start, end, steps, path)
    latents = await session.by_prior(prior, normal.nbytes, prior.sample, normal)
    if prior.is_learned and not latents.isfinite().all():
        raise BadValue(
            f"The path is not finite: its ends are too far from the latents of images for the prior of "
            f"{session.model.version}; send latents that encode gave, or images."
        )
    return await session.images_of(latents, pixel_type)
