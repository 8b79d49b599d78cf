"""How an image is scored: which pixels, by which posterior draws, and the words for it beside the number.

Evaluation and service use the same functions, so that with the same seed they give the same numbers and words.

A seed gives each image noise of its own, by its place: means over many images need that. Without a seed all images get
the same noise, so that the same picture has the same score wherever it stands; pictures are compared in that way.
"""

from __future__ import annotations

from typing import Literal

from torch import Tensor

from .config import VAEConfig
from .noise import derived_seed, standard_normal, uniform
from .pixels import binarise, threshold, to_pixels

Binarise = Literal["sample", "threshold"]

_SHARED_SEED = 0


def binarised_for_scoring(config: VAEConfig, pixels: Tensor, seed: int | None, how: Binarise = "sample") -> Tensor:
    """The uint8 pixels (B, C, H, W) that are scored: black and white for a model with a binary likelihood.

    Black and white are drawn with the seed, or with the noise that images share (the grey value is the probability of
    white), or cut at the middle grey. For other likelihoods the pixels stay as they are.
    """
    if not config.likelihood.is_binary:
        return pixels
    if how == "threshold":
        return to_pixels(threshold(pixels))
    drawn = 1 if seed is None else len(pixels)
    noise = uniform(derived_seed(_number(seed), "pixels"), drawn, tuple(pixels.shape[1:]))
    return to_pixels(binarise(pixels, noise.expand(len(pixels), *noise.shape[1:])))


def posterior_noise(seed: int | None, number: int, count: int, shape: tuple[int, ...]) -> Tensor:
    """Noise (count, *shape) for the posterior draw with that number; each draw of the same images has its own noise.

    Without a seed all images share it.
    """
    noise = standard_normal(derived_seed(_number(seed), f"draw {number}"), 1 if seed is None else count, shape)
    return noise.expand(count, *shape)


def describe_seed(seed: int | None) -> str:
    """The words that say which noise the images got, for the protocol beside a number."""
    return "the same noise for all images" if seed is None else f"seed {seed}"


def _number(seed: int | None) -> int:
    return _SHARED_SEED if seed is None else seed


def describe_protocol(config: VAEConfig, how: Binarise = "sample") -> str:
    """The words that describe how images are scored, for the protocol beside a number."""
    scored = _describe_pixels(config, how)
    return f"{scored}, the KL to the {config.prior.kind} by the posterior draws" if config.has_learned_prior else scored


def _describe_pixels(config: VAEConfig, how: Binarise) -> str:
    """The words that describe `binarised_for_scoring`."""
    if config.likelihood.is_binary:
        return "binarised at the middle grey" if how == "threshold" else "each binarised once by its grey values"
    if config.likelihood.is_8_bit:
        return "8-bit pixels as they are"
    return "grey values in [0, 1], whose likelihood is a density"
