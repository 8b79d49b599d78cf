"""What the engine finds out: plain values, all on the CPU, with nothing in them of a request or of HTTP."""

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
    """Images float32 (B, C, H, W) in [0, 1], the latents they were decoded from, and the seed of both."""

    images: Tensor
    latents: Tensor
    seed: int


@dataclass(frozen=True)
class Reconstruction:
    """Images after a way through the latents, float32 (B, C, H, W) in [0, 1], and how far they are from the originals.

    `mse` is the mean squared error per image on that scale, `psnr_db` the same in decibels, None where it is infinite.
    """

    images: Tensor
    mse: list[float]
    psnr_db: list[float | None]
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
    """Images float32 (B, C, H, W) in [0, 1] that belong into rows of so many columns."""

    images: Tensor
    columns: int
    seed: int | None = None
