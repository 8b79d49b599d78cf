"""What the engine finds out: plain values, all on the CPU, with nothing in them of a request or of HTTP.

Images are float32 in [0, 1] or uint8 in 0 … 255, as they were asked for.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Encoding:
    """Latents of images, and the posterior they come from, in normal coordinates; all (B, *latent_shape).

    The log-variance is None for a plain autoencoder. The seed is that of a draw.
    """

    latents: Tensor
    mean: Tensor
    log_variance: Tensor | None
    seed: int | None


@dataclass(frozen=True)
class Samples:
    """Images (B, C, H, W), the latents they were decoded from, and the seed of both."""

    images: Tensor
    latents: Tensor
    seed: int


@dataclass(frozen=True)
class Errors:
    """How far each image is from its original: the mean squared error of values in [0, 1], and the same in decibels.

    Where an image is its original, decibels would be infinite, and are None.
    """

    mse: list[float]
    psnr_db: list[float | None]


@dataclass(frozen=True)
class Reconstruction:
    """Images after a way through the latents, (B, C, H, W), and how far they are from the originals, if not rounded."""

    images: Tensor
    errors: Errors | None
    seed: int | None


@dataclass(frozen=True)
class Score:
    """What a model thinks of images: nats of each, (B,), and by which protocol.

    Bits per dimension are None for pixels that are not 8-bit; percentiles, 0 to 100 among the model's own test images,
    are None where the card does not say what is usual.
    """

    elbo_nats: Tensor
    log_likelihood_nats: Tensor
    kl_nats: Tensor
    importance_weighted_nats: Tensor
    bits_per_dimension: Tensor | None
    percentile: list[float] | None
    protocol: str
    seed: int


@dataclass(frozen=True)
class Grid:
    """Images (B, C, H, W) that belong into rows of `columns`."""

    images: Tensor
    columns: int
    seed: int | None = None
