"""TAESDConfig: the record of a tiny autoencoder. This module knows no tensors."""

from __future__ import annotations

from math import prod
from typing import Final, Literal

from ..vae.family import ImageShape
from ..vae.pretrained import PretrainedConfig

WIDTH = 64  # channels of every layer
DOWNSCALE: Final = 8

# Maps of the size of the picture that are held at once: 3.1 to 5.9 were measured for pictures of 512×512, and 5.2 at
# the lowest resolution, where the normalisation of a large map takes a group of channels at a time (2026-11-27).
_MAPS, _MIDDLE_MAPS = 6, 6
# Pixels. A pixel reaches cells of the encoder 64 pixels away, and a cell pixels of the decoder 65 pixels away (measured
# with random weights on 2026-11-27; the convolutions outside the blocks at the lowest resolution predict it).
_HALO = 72
_FLOAT32_BYTES = 4


class TAESDConfig(PretrainedConfig):
    """A tiny autoencoder: residual blocks of 64 channels, which halve and double each side three times.

    `has_middle_norm` is set for networks whose blocks at the lowest resolution begin with a branch of group
    normalisation, such as TAEF2, the one for FLUX.2.
    """

    family: Literal["taesd"] = "taesd"
    downscale: Literal[8] = DOWNSCALE
    has_middle_norm: bool = False

    def activation_bytes_of(self, image_shape: ImageShape) -> int:
        """A bound of the memory that a forward pass of one image of that shape needs besides the weights."""
        return _MAPS * _FLOAT32_BYTES * WIDTH * prod(image_shape[1:])

    def middle_bytes_of(self, image_shape: ImageShape) -> int:
        """A bound of the memory of the blocks at the lowest resolution, which the normalisation needs at once."""
        cells = prod(image_shape[1:]) // DOWNSCALE**2
        return _MIDDLE_MAPS * _FLOAT32_BYTES * WIDTH * cells

    @property
    def halo(self) -> int:
        """The reach of the convolutions outside the blocks at the lowest resolution; the decoder's is the larger."""
        return _HALO

    @property
    def is_posterior_a_point(self) -> bool:
        """True: a tiny encoder gives the mean of the posterior of the model that it imitates."""
        return True
