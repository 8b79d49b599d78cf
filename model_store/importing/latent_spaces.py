"""The names of latent spaces that many models share, and how a source tells them.

A name such as `sdxl` means: a decoder with this name reads the latents of an encoder with this name.
"""

from __future__ import annotations

from typing import NamedTuple

# the tiny autoencoders of madebyollin/taesd, by the beginning of their files' names
TINY = {"taesd": "sd1", "taesdxl": "sdxl", "taesd3": "sd3", "taef1": "flux1", "taef2": "flux2"}


class Known(NamedTuple):
    """The numbers by which a latent space is recognised: channels, scaling_factor, shift_factor."""

    channels: int
    factor: float
    shift: float


# from the config.json of the repositories of these models, whose factors are measured and differ from each other
KNOWN = {
    "sd1": Known(4, 0.18215, 0.0),
    "sdxl": Known(4, 0.13025, 0.0),
    "flux1": Known(16, 0.3611, 0.1159),
    "sd3": Known(16, 1.5305, 0.0609),
}


def by_numbers(channels: int, factor: float, shift: float) -> str | None:
    """The latent space with these numbers; None if no known space has them."""
    numbers = Known(channels, factor, shift)
    return next((name for name, known in KNOWN.items() if known == numbers), None)
