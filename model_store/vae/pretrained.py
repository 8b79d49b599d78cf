"""PretrainedConfig: what a card says about every autoencoder that others trained. It takes images of any size.

Their latents are grids, and other programs exchange them *scaled*: shifted and divided so that their standard deviation
is about 1, as a diffusion model needs it. The factors are in the card.
"""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from .family import FamilyConfig, ImageShape, Lack, Operation, ShapeMismatch
from .scaling import Scaling

Channels = Annotated[int, Field(ge=1, le=4096)]

MAX_SIDE = 16_384  # pixels
_EXAMPLE_SIDE = 64

_LACKS: dict[Operation, Lack] = {
    "sample": Lack(
        "has no prior to draw from: others trained it to be decoded behind a diffusion model",
        "decode latents of your own, or interpolate between images",
    ),
    "score": Lack(
        "has no likelihood p(x|z), which a score in nats needs",
        "ask reconstruct for its error, or score with a variational autoencoder of the family vae",
    ),
    "traverse": Lack(
        "has latents that are grids, in which a single value moves a few pixels",
        "interpolate between two images",
    ),
}


class PretrainedConfig(FamilyConfig):
    """An autoencoder of images of any size: its sides are multiples of `downscale`.

    `latent_space` names the latents that the model understands, such as `sdxl`, `flux1` or `flux2`: a model decodes the
    latents of another model if both name the same space.
    """

    image_shape: tuple[Literal[1, 3], None, None]
    latent_shape: tuple[Channels, None, None]
    downscale: Annotated[int, Field(ge=1, le=128)]
    latent_space: Annotated[str, Field(pattern="^[a-z0-9][a-z0-9._-]{0,63}$")]
    scaling: Scaling = Scaling()

    def latent_shape_of(self, image_shape: tuple[int, ...]) -> tuple[int, ...]:
        """The shape (D, H/downscale, W/downscale) of the latent of an image (C, H, W).

        Raises:
            ShapeMismatch: the channels differ, or a side is not a multiple of `downscale`.
        """
        channels, height, width = image_shape if len(image_shape) == 3 else (0, 0, 0)
        if channels != self.image_shape[0] or not self._is_side(height) or not self._is_side(width):
            remedy = (
                f"each side must be a multiple of {self.downscale} up to {MAX_SIDE}: ask for resize=contain, cover or "
                "stretch, or for fit=pad"
            )
            raise ShapeMismatch(image_shape, self.image_shape, remedy)
        return (self.latent_shape[0], height // self.downscale, width // self.downscale)

    def image_shape_of(self, latent_shape: tuple[int, ...]) -> ImageShape:
        """The shape (C, H, W) of the image of a latent (D, h, w).

        Raises:
            ShapeMismatch: the latent is not a grid, has other channels, or its image would be too large.
        """
        channels, height, width = latent_shape if len(latent_shape) == 3 else (0, 0, 0)
        sides = height * self.downscale, width * self.downscale
        if channels != self.latent_shape[0] or not all(map(self._is_side, sides)):
            remedy = f"send {self.latent_space} latents of {self.latent_shape[0]} channels, of images up to {MAX_SIDE}"
            raise ShapeMismatch(latent_shape, self.latent_shape, remedy)
        return (self.image_shape[0], *sides)

    def fitting_shape(self, height: int, width: int) -> ImageShape:
        """The channels of the model, and each side rounded up to a multiple of `downscale`."""

        def up(side: int) -> int:
            return -(-side // self.downscale) * self.downscale

        return (self.image_shape[0], up(height), up(width))

    def lacks(self, operation: Operation) -> Lack | None:
        """Why the model cannot do an operation; None if it can."""
        return _LACKS.get(operation)

    @property
    def space(self) -> str:
        """The name of the space of the latents."""
        return self.latent_space

    @property
    def latent_scaling(self) -> Scaling:
        """The numbers with which other programs exchange the latents."""
        return self.scaling

    @property
    def multiple(self) -> int:
        """Each side of an image is a multiple of `downscale`."""
        return self.downscale

    @property
    def example_shape(self) -> ImageShape:
        """Images of about 64×64: small ones, since every start of a service tries each model with several."""
        return self.fitting_shape(_EXAMPLE_SIDE, _EXAMPLE_SIDE)

    def _is_side(self, side: int) -> bool:
        return 0 < side <= MAX_SIDE and side % self.downscale == 0

    @model_validator(mode="after")
    def _statistics_fit_the_channels(self) -> Self:
        if self.scaling.mean is not None and len(self.scaling.mean) != self.latent_shape[0]:
            raise ValueError(
                f"scaling.mean has {len(self.scaling.mean)} numbers, but a latent has {self.latent_shape[0]} channels"
            )
        return self
