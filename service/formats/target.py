"""Target: the shapes that a model's images have, and the number of pixels that may be decoded to make them."""

from __future__ import annotations

from dataclasses import dataclass

from model_store.pictures import Background, Resize
from model_store.vae.family import ImageShape
from model_store.version import ModelVersion

from ..errors import TooLarge, WrongShape

MAX_SIDE = 16_384  # pixels, unless the model's images are longer; resizing computes weights for each pixel of a side


@dataclass(frozen=True)
class Target:
    """The shape of a model's images, the way to resize other images, and the number of pixels that may be decoded.

    A model that takes any size has None for both sides in `image_shape`, and each side is a multiple of `multiple`.
    Images that `are_padded` later keep their size here. The `background` is behind transparent pixels and around
    pictures that `contain` fits.
    """

    model: ModelVersion
    image_shape: tuple[int, int | None, int | None]
    resize: Resize
    max_pixels: int
    max_request_pixels: int
    multiple: int = 1
    are_padded: bool = False
    background: Background = "black"

    def shape_of(self, height: int, width: int) -> ImageShape:
        """The shape (C, H, W) to which an image of that size is resized."""
        channels, own_height, own_width = self.image_shape
        if self.are_padded:
            return channels, height, width
        return channels, own_height or self._up(height), own_width or self._up(width)

    def takes(self, height: int, width: int) -> bool:
        """Whether an image of that size is not resized."""
        return self.shape_of(height, width)[1:] == (height, width)

    def image_too_large(self, name: str, pixels: int | None = None) -> TooLarge:
        """The error for one image; `pixels` is its size, where it is known."""
        remedy = "send it smaller, or raise max_pixels where the service is started"
        return TooLarge(name, size=pixels, limit=self.max_pixels, unit="pixels", remedy=remedy)

    def check_size(self, name: str, height: int, width: int) -> None:
        """Raise TooLarge if one image has too many pixels, or too long a side."""
        if height * width > self.max_pixels:
            raise self.image_too_large(name, height * width)
        _, *own = self.image_shape
        if (side := max(height, width)) > (limit := max(MAX_SIDE, *(side or 0 for side in own))):
            raise TooLarge(name, size=side, limit=limit, unit="pixels a side", remedy="crop it, or send it smaller")

    def request_too_large(self, pixels: int | None = None) -> TooLarge:
        """The error for all images of a request together."""
        _, height, width = self.image_shape
        counts = f" (each counts as at least {height}×{width}, the model's size)" if height and width else ""
        remedy = f"send fewer or smaller ones in one request{counts}"
        return TooLarge("The request", size=pixels, limit=self.max_request_pixels, unit="pixels", remedy=remedy)

    def counted_pixels(self, height: int, width: int) -> int:
        """The pixels for which one image counts: its own, or after it is resized, whichever are more."""
        _, fitted_height, fitted_width = self.shape_of(height, width)
        return max(height * width, fitted_height * fitted_width)

    def wrong_size(self, name: str, height: int, width: int) -> WrongShape:
        """The error for an image that is not resized, though it has another size than the model's."""
        remedy = "ask for resize=contain (pad), cover (crop) or stretch"
        _, own_height, own_width = self.image_shape
        if own_height and own_width:
            return WrongShape(
                f"{name} is", got=(height, width), model=self.model, expected=(own_height, own_width), remedy=remedy
            )
        return WrongShape(
            f"{name} is",
            got=(height, width),
            model=self.model,
            expected=f"sides that are multiples of {self.multiple}",
            remedy=f"{remedy}, which give {self._up(height)}×{self._up(width)}, or for fit=pad",
        )

    def _up(self, side: int) -> int:
        return -(-side // self.multiple) * self.multiple
