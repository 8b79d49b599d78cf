"""TAESDConfig: the record of a tiny autoencoder. This module knows no tensors."""

from __future__ import annotations

from math import prod
from typing import Final, Literal

from ..vae.family import ImageShape
from ..vae.pretrained import PretrainedConfig

WIDTH = 64  # channels of every layer
DOWNSCALE: Final = 8

# A block holds its input, two maps of convolutions and their activations.
_MAPS = 5
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

    @property
    def is_posterior_a_point(self) -> bool:
        """True: a tiny encoder gives the mean of the posterior of the model that it imitates."""
        return True
