"""The limits of one request. Its images and latents are checked before anything is computed for them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from math import isfinite

from torch import Tensor

from model_store.vae.family import ImageShape, ShapeMismatch

from ..errors import BadValue, TooLarge, WrongShape, about_row
from ..inference.served_model import ServedModel

LARGEST_LATENT = 10_000.0  # no image has larger latents, and a decoder could overflow

_FEWER = "send, or ask for, fewer images in one request"


@dataclass(frozen=True)
class Limits:
    """The limits of one request.

    Attributes:
        images: images that come in or go out.
        pixels: pixels of all images together.
        picture_pixels: pixels of one picture, as it was sent.
        draws: posterior draws of all images together.
        answer_bytes: memory for the tensors of a request and its answer.
        compute_bytes: memory of one forward pass of an image, beside the weights; a larger image is tiled.
        compute_s: seconds of one forward pass of an image; one that would take longer is tiled.
    """

    images: int
    pixels: int
    picture_pixels: int
    draws: int
    answer_bytes: int
    compute_bytes: int
    compute_s: float

    def check_images(self, model: ServedModel, pixels: Tensor) -> ImageShape:
        """The shape (C, H, W) of images (B, C, H, W), which fit the model and the limits.

        Raises:
            WrongShape, TooLarge: the images do not fit.
        """
        count, *shape = pixels.shape
        with _about_shape("An image is", model):
            model.card.model.latent_shape_of(tuple(shape))
        channels, height, width = shape
        self.check_count(count, image_shape := (channels, height, width))
        return image_shape

    def check_latents(self, model: ServedModel, latents: Tensor) -> ImageShape:
        """The shape (C, H, W) of the images of latents (B, *latent_shape), which fit the model and the limits.

        Raises:
            WrongShape, BadValue, TooLarge: the latents do not fit.
        """
        image_shape = self.check_latent_shape(model, latents.shape)
        lowest, highest = model.prior.support
        if isfinite(lowest) and isfinite(highest):
            remedy = f"latents of {model.version} are within {lowest:g} and {highest:g}, the support of its prior"
            check_range(latents, lowest, highest, "A latent", remedy)
            return image_shape
        remedy = f"latents must be finite and within ±{LARGEST_LATENT:g}; the latents of images are a few units from 0"
        check_range(latents, -LARGEST_LATENT, LARGEST_LATENT, "A latent", remedy)
        return image_shape

    def check_latent_shape(self, model: ServedModel, shape: Sequence[int]) -> ImageShape:
        """The shape (C, H, W) of the images of latents of a shape (B, *latent_shape).

        Raises:
            WrongShape, TooLarge: the latents do not fit the model or the limits.
        """
        with _about_shape("A latent is", model):
            image_shape = model.card.model.image_shape_of(tuple(shape[1:]))
        self.check_count(shape[0], image_shape)
        return image_shape

    def check_count(self, images: int, image_shape: ImageShape) -> None:
        """Raise TooLarge for more images (C, H, W), or more pixels in all of them, than one request may have."""
        _, height, width = image_shape
        self.check_pixels(images, images * height * width)

    def check_pixels(self, images: int, pixels: int) -> None:
        """Raise TooLarge for more images, or more pixels in all of them, than one request may have."""
        if images > self.images:
            raise TooLarge("The request", size=images, limit=self.images, unit="images", remedy=_FEWER)
        if pixels > self.pixels:
            raise TooLarge("The request", size=pixels, limit=self.pixels, unit="pixels", remedy=_FEWER)

    def check_bytes(self, size: int) -> None:
        """Raise TooLarge for more memory than the tensors of one request and its answer may take."""
        if size > self.answer_bytes:
            raise TooLarge(
                "The answer",
                size=size,
                limit=self.answer_bytes,
                unit="bytes of images, latents and text in memory",
                remedy=f"{_FEWER}, or ask for npy or safetensors",
            )

    def check_draws(self, images: int, draws: int) -> None:
        """Raise TooLarge for more posterior draws, of all images together, than one request may ask for."""
        if (size := images * draws) > self.draws:
            raise TooLarge(
                "The request",
                size=size,
                limit=self.draws,
                unit="images times importance_samples",
                remedy="send fewer images, or ask for fewer importance_samples",
            )


@contextmanager
def _about_shape(name: str, model: ServedModel) -> Iterator[None]:
    """Raise WrongShape for a shape that the family does not take; the message names the model."""
    try:
        yield
    except ShapeMismatch as error:
        raise WrongShape(
            name, got=error.got, model=model.version, expected=error.expected, remedy=error.remedy
        ) from error


def check_range(rows: Tensor, lowest: float, highest: float, name: str, remedy: str) -> None:
    """Raise BadValue about the first row with a number that is not finite, or not in the range."""
    if not rows.numel():
        return
    least, most = rows.aminmax()  # without memory of its own; NaN becomes both, and is in no range
    if lowest <= least and most <= highest:
        return
    is_outside = ~((rows >= lowest) & (rows <= highest))
    with about_row(int(is_outside.flatten(1).any(1).nonzero()[0])):
        raise BadValue(f"{name} holds {float(rows[is_outside][0]):g}; {remedy}.")
