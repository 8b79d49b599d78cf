"""Scaling: latents as a decoder reads them, and as diffusion models and other programs exchange them.

The convention is that of the diffusers library: scaled = (latent − shift) · factor, or with the statistics of each
channel (latent − mean) · factor / standard deviation (`StableDiffusionXLPipeline.__call__`, read in November 2026).
"""

from __future__ import annotations

import torch
from torch import Tensor

from model_store.vae.scaling import Scaling

from ..errors import BadValue
from .encode import Encoding


def scaled(latents: Tensor, scaling: Scaling) -> Tensor:
    """Latents (B, D, h, w) of about standard deviation 1, from latents as an encoder gives them."""
    centre, spread = _centre_and_spread(latents, scaling)
    return (latents - centre) / spread


def scaled_encoding(encoding: Encoding, scaling: Scaling) -> Encoding:
    """Latents and their posterior, scaled: the standard deviation is divided as the latents are.

    Raises:
        BadValue: the scaled latents are too large for float32.
    """
    _, spread = _centre_and_spread(encoding.mean, scaling)
    log_variance = encoding.log_variance
    found = Encoding(
        scaled(encoding.latents, scaling),
        scaled(encoding.mean, scaling),
        None if log_variance is None else log_variance - 2 * torch.as_tensor(spread).log(),
        encoding.seed,
    )
    if not all(extreme.isfinite() for part in (found.latents, found.mean) for extreme in part.aminmax()):
        raise BadValue("The scaled latents are too large for float32; ask for scaled=false.")
    return found


def unscaled(latents: Tensor, scaling: Scaling) -> Tensor:
    """Latents (B, D, h, w) as a decoder reads them, from scaled latents."""
    centre, spread = _centre_and_spread(latents, scaling)
    return latents * spread + centre


def _centre_and_spread(latents: Tensor, scaling: Scaling) -> tuple[Tensor | float, Tensor | float]:
    if scaling.mean is None or scaling.standard_deviation is None:
        return scaling.shift, 1 / scaling.factor
    channels = (-1, *(1,) * (latents.ndim - 2))
    mean, deviation = (torch.tensor(numbers).view(channels) for numbers in (scaling.mean, scaling.standard_deviation))
    return mean, deviation / scaling.factor
