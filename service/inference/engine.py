"""Engine: the questions that a variational autoencoder can answer, each a composition of its few operations.

Noise is drawn here, for each request from its own seed and before batching, so that an answer never depends on who
shared the batch. It knows no HTTP.
"""

from __future__ import annotations

import math
import secrets
from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from model_store.vae import DiagonalGaussian
from model_store.vae.noise import MAX_SEED, standard_normal
from model_store.vae.pixels import to_images

from ..aside import aside
from ..errors import BadValue, TooLarge, WrongShape
from ..timings import Timings
from .registry import Registry, ServedModel
from .runner import Outputs

Draw = Literal["mean", "sample"]

LARGEST_LATENT = 10_000.0


@dataclass(frozen=True)
class Encoding:
    """Latents of images, and the posterior they come from; all (B, *latent_shape). The seed is that of a draw."""

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


class Engine:
    """Answers questions about images with the models of a registry."""

    def __init__(self, registry: Registry, *, max_images: int, max_pixels: int) -> None:
        self.registry = registry
        self._max_images = max_images
        self._max_pixels = max_pixels

    async def encode(
        self, model: ServedModel, pixels: Tensor, timings: Timings, *, draw: Draw = "mean", seed: int | None = None
    ) -> Encoding:
        """Latents of uint8 pixels (B, C, H, W): the posterior's mean, or a draw from it.

        Raises:
            WrongShape, TooLarge: the images do not fit the model or the limits.
            Overloaded, Unavailable: not now.
        """
        self._check_shape(model, "An image is", pixels, model.card.model.image_shape)
        posterior = DiagonalGaussian(*await self._ask(model, "encode", pixels, timings))
        latents, seed = await _latents(posterior, draw, seed)
        return Encoding(latents, posterior.mean, posterior.log_variance, seed)

    async def decode(self, model: ServedModel, latents: Tensor, timings: Timings) -> Tensor:
        """Images float32 (B, C, H, W) in [0, 1] from latents float32 (B, *latent_shape).

        Raises:
            WrongShape, BadValue, TooLarge: the latents do not fit the model or the limits.
            Overloaded, Unavailable: not now.
        """
        self._check_shape(model, "A latent is", latents, model.card.model.latent_shape)
        _check_values(latents)
        (images,) = await self._ask(model, "decode", latents, timings)
        return images

    async def sample(
        self, model: ServedModel, n: int, timings: Timings, *, seed: int | None = None, temperature: float = 1.0
    ) -> Samples:
        """Random images: latents drawn from the prior, decoded. Image i depends on the seed and i alone.

        Raises:
            TooLarge: more images than the limits allow.
            Overloaded, Unavailable: not now.
        """
        self._check_count(model, n)
        seed = draw_seed() if seed is None else seed
        latents = model.prior.sample(await _noise(seed, n, model.card.model.latent_shape), temperature)
        return Samples(await self.decode(model, latents, timings), latents, seed)

    async def reconstruct(
        self, model: ServedModel, pixels: Tensor, timings: Timings, *, draw: Draw = "mean", seed: int | None = None
    ) -> Reconstruction:
        """Uint8 pixels (B, C, H, W) encoded and decoded again.

        Raises:
            WrongShape, TooLarge: the images do not fit the model or the limits.
            Overloaded, Unavailable: not now.
        """
        encoding = await self.encode(model, pixels, timings, draw=draw, seed=seed)
        images = await self.decode(model, encoding.latents, timings)
        mse = await aside(images.nbytes, _mean_squared_errors, images, pixels)
        return Reconstruction(images, mse, [_decibels(error) for error in mse], encoding.seed)

    async def _ask(self, model: ServedModel, operation: str, payload: Tensor, timings: Timings) -> Outputs:
        answer = await model.batcher.ask(operation, payload, len(payload))
        timings.add("queue", answer.queue_s)
        timings.add("compute", answer.compute_s)
        return answer.result

    def _check_shape(self, model: ServedModel, name: str, tensor: Tensor, expected: tuple[int, ...]) -> None:
        if tuple(tensor.shape[1:]) != expected:
            raise WrongShape(
                name, got=tensor.shape[1:], model=model.version, expected=expected, remedy="send them in that shape"
            )
        self._check_count(model, len(tensor))

    def _check_count(self, model: ServedModel, images: int) -> None:
        if images > self._max_images:
            raise TooLarge("The request", size=images, limit=self._max_images, unit="images")
        _, height, width = model.card.model.image_shape
        if images * height * width > self._max_pixels:
            raise TooLarge("The request", size=images * height * width, limit=self._max_pixels, unit="pixels")


def _check_values(latents: Tensor) -> None:
    if not latents.abs().le(LARGEST_LATENT).all():
        raise BadValue(
            f"Latents must be finite and within ±{LARGEST_LATENT:g}; those of images lie within a few units of 0."
        )


def draw_seed() -> int:
    """A seed that nobody can guess, for a request that names none."""
    return secrets.randbelow(MAX_SEED + 1)


async def _latents(posterior: DiagonalGaussian, draw: Draw, seed: int | None) -> tuple[Tensor, int | None]:
    """The mean, which needs no seed, or a draw and the seed that gives it again."""
    if draw == "mean":
        return posterior.mean, None
    seed = draw_seed() if seed is None else seed
    count, *shape = posterior.mean.shape
    return posterior.sample(await _noise(seed, count, tuple(shape))), seed


async def _noise(seed: int, count: int, shape: tuple[int, ...]) -> Tensor:
    return await aside(4 * count * math.prod(shape), standard_normal, seed, count, shape)


def _mean_squared_errors(images: Tensor, pixels: Tensor) -> list[float]:
    errors: list[float] = (images - to_images(pixels)).square().flatten(1).mean(1).tolist()
    return errors


def _decibels(mse: float) -> float | None:
    """The peak signal-to-noise ratio of images in [0, 1]."""
    return -10 * math.log10(mse) if mse else None
