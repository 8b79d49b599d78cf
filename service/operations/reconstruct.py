"""Reconstruct: images → images, through the latents."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor

from model_store.vae.family import ImageShape
from model_store.vae.pixels import mean_squared_errors, psnr_db, to_images

from ..offload import offload
from .encode import Draw, encode, held_latents
from .padding import cropped
from .session import PIXEL_BYTES, PixelType, Session


@dataclass(frozen=True)
class Distortion:
    """The distance of each image from its original: the mean squared error of values in [0, 1], and in decibels.

    The decibels of an image that equals its original are infinite.
    """

    mse: list[float]
    psnr_db: list[float]


@dataclass(frozen=True)
class Reconstruction:
    """Images (B, C, H, W), encoded and decoded; their distortion is None where they were rounded to uint8."""

    images: Tensor
    distortion: Distortion | None
    seed: int | None


def admit_reconstruct(session: Session, counts: Mapping[ImageShape, int], pixel_type: PixelType) -> None:
    """Reserve memory to encode and decode a number of images of each shape (C, H, W)."""
    compared = 12 if pixel_type == "float32" else 0  # the originals as float32, the differences and their squares
    session.admit_each(counts, latents=held_latents(session), value_bytes=2 + 2 * PIXEL_BYTES[pixel_type] + compared)


async def reconstruct(
    session: Session,
    pixels: Tensor,
    *,
    draw: Draw = "mean",
    seed: int | None = None,
    first: int = 0,
    size: Sequence[int] | None = None,
    pixel_type: PixelType = "float32",
) -> Reconstruction:
    """Uint8 pixels (B, C, H, W), encoded and decoded again, and compared with the originals unless they are rounded.

    A draw depends on the seed and on the number of the image, which begins at `first`. Of pixels that were padded, only
    the part of the original `size` (height, width) is given and compared.

    Raises:
        NotSupportedByModel: the model has no encoder.
        WrongShape, TooLarge: the images do not fit the model or the limits.
        AnswerMemoryFull, QueueFull, Unavailable: the service has no capacity now.
    """
    session.check_can("reconstruct")
    image_shape = session.limits.check_images(session.model, pixels)
    admit_reconstruct(session, {image_shape: len(pixels)}, pixel_type)
    async with session.turn_if_tiled(image_shape):
        encoding = await encode(session, pixels, draw=draw, seed=seed, first=first)
        images = await session.images_of(encoding.latents, pixel_type)
    if size is not None:
        images = await offload(images.nbytes, cropped, images, size)
        pixels = await offload(pixels.nbytes, cropped, pixels, size)
    if pixel_type == "uint8":
        return Reconstruction(images, None, encoding.seed)
    originals = await offload(images.nbytes, to_images, pixels)
    mse = (await offload(images.nbytes, mean_squared_errors, images, originals)).tolist()
    return Reconstruction(images, Distortion(mse, [psnr_db(error) for error in mse]), encoding.seed)
