"""Whether the likelihood of a recipe suits its images, by the images alone, before any training."""

from __future__ import annotations

import math

from torch import Tensor

from model_store import VAEConfig
from model_store.vae.pixels import to_images

# MNIST has 0.17, digits that a model has drawn 0.23, Fashion-MNIST 0.40, and photographs of 64×64 pixels have 0.82
# (`noise_share`, 2026-11-27).
MAX_NOISE_SHARE = 0.3

_IMAGES = 2048  # of the training images, evenly apart
_VALUES = 2**24  # fewer images are taken if they have more values: each takes 8 bytes, and as much in copies


def likelihood_warning(config: VAEConfig, pixels: Tensor) -> str | None:
    """A sentence about a likelihood of binary pixels for uint8 pixels (N, C, H, W) that are not nearly binary."""
    if not config.likelihood.is_binary or (share := noise_share(pixels)) < MAX_NOISE_SHARE:
        return None
    return (
        f"The likelihood {config.likelihood.kind} is for black and white pixels, but these images have grey values or "
        f"colours: each value is made black or white at random, and {share:.0%} of what the model sees is that noise; "
        "keep the values with --set model.likelihood.kind=discretised_logistic."
    )


def noise_share(pixels: Tensor) -> float:
    """The part of the variance of binarised pixels that is noise of the binarisation: 0 for black and white images.

    A value p in [0, 1] becomes 1 with probability p, which has the variance p(1 − p). By the law of total variance,
    the mean of these variances is a part of the whole, m(1 − m), where m is the mean of all values.
    """
    images = max(1, min(_IMAGES, _VALUES // math.prod(pixels.shape[1:])))
    values = to_images(pixels[:: math.ceil(len(pixels) / images)].cpu()).double()
    mean = values.mean().item()
    whole = mean * (1 - mean)
    return (values * (1 - values)).mean().item() / whole if whole else 0.0
