"""How an image is judged: which pixels, by which draws, and in which words that is said beside the number.

Evaluation and service take it from here, so that with the same seed they give the same numbers, and say the same.
"""

from __future__ import annotations

from typing import Literal

from torch import Tensor

from .config import VAEConfig
from .noise import derived_seed, standard_normal, uniform
from .pixels import binarise, threshold, to_pixels

Binarise = Literal["sample", "threshold"]


def binarised_for_scoring(config: VAEConfig, pixels: Tensor, seed: int, how: Binarise = "sample") -> Tensor:
    """The uint8 pixels (B, C, H, W) whose likelihood a model states: black and white ones for a Bernoulli model.

    They are drawn by their grey values with the seed, or cut at the middle grey; other models take them as they are.
    """
    if not config.likelihood.is_binary:
        return pixels
    if how == "threshold":
        return to_pixels(threshold(pixels))
    noise = uniform(derived_seed(seed, "pixels"), len(pixels), tuple(pixels.shape[1:]))
    return to_pixels(binarise(pixels, noise))


def posterior_noise(seed: int, number: int, count: int, shape: tuple[int, ...]) -> Tensor:
    """Noise (count, *shape) of the `number`-th of several posterior draws for the same images."""
    return standard_normal(derived_seed(seed, f"draw {number}"), count, shape)


def describe_protocol(config: VAEConfig, how: Binarise = "sample") -> str:
    """What `binarised_for_scoring` did, for people."""
    if config.likelihood.is_binary:
        return "binarised at the middle grey" if how == "threshold" else "each binarised once by its grey values"
    if config.likelihood.is_8_bit:
        return "8-bit pixels as they are"
    return "grey values in [0, 1], whose likelihood is a density"
