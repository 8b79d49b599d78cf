"""Target: the shape that a model's images have, and the number of pixels that may be decoded to make them."""

from __future__ import annotations

from dataclasses import dataclass

from model_store.pictures import Resize
from model_store.version import ModelVersion

from ..errors import TooLarge, WrongShape

MAX_SIDE = 16_384  # pixels, unless the model's images are longer; resizing computes weights for each pixel of a side


@dataclass(frozen=True)
class Target:
    """The shape of a model's images, the way to resize other images, and the number of pixels that may be decoded."""

    model: ModelVersion
    image_shape: tuple[int, int, int]
    resize: Resize
    max_pixels: int
    max_request_pixels: int

    def image_too_large(self, name: str, pixels: int | None = None) -> TooLarge:
        """The error for one image; `pixels` is its size, where it is known."""
        remedy = "send it smaller, or raise max_pixels where the service is started"
        return TooLarge(name, size=pixels, limit=self.max_pixels, unit="pixels", remedy=remedy)

    def check_size(self, name: str, height: int, width: int) -> None:
        """Raise TooLarge if one image has too many pixels, or too long a side."""
        if height * width > self.max_pixels:
            raise self.image_too_large(name, height * width)
        if (side := max(height, width)) > (limit := max(MAX_SIDE, *self.image_shape[1:])):
            raise TooLarge(name, size=side, limit=limit, unit="pixels a side", remedy="crop it, or send it smaller")

    def request_too_large(self, pixels: int | None = None) -> TooLarge:
        """The error for all images of a request together."""
        height, width = self.image_shape[1:]
        remedy = (
            f"send fewer or smaller ones in one request (each counts as at least {height}×{width}, the model's size)"
        )
        return TooLarge("The request", size=pixels, limit=self.max_request_pixels, unit="pixels", remedy=remedy)

    def counted_pixels(self, height: int, width: int) -> int:
        """The pixels for which one image counts: its own, or after it is resized, whichever are more."""
        return max(height * width, self.image_shape[1] * self.image_shape[2])

    def wrong_size(self, name: str, height: int, width: int) -> WrongShape:
        """The error for an image that is not resized, though it has another size than the model's."""
        return WrongShape(
            f"{name} is",
            got=(height, width),
            model=self.model,
            expected=self.image_shape[1:],
            remedy="ask for resize=contain (pad), cover (crop) or stretch",
        )
