"""TAESDConfig: the record of a tiny autoencoder. This module knows no tensors."""

from __future__ import annotations

from math import prod
from typing import Literal

from ..vae.family import ImageShape
from ..vae.pretrained import PretrainedConfig

WIDTH = 64  # channels of every layer
DOWNSCALE = 8

# The growth of a process by one picture, in maps of the largest size: 4.0 to 5.9 for pictures of 512×512, and up to 9.6
# for pictures of 128×128 with the middle norm, whose maps are four times as wide (torch 2.13, one thread, 2026-11-27).
_MAPS = 10
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
