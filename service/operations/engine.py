"""Engine: the questions that a variational autoencoder answers, each a composition of its few operations.

Noise is drawn here, for each request from its own seed and before batching, so that an answer never depends on who
shared the batch. Scores and ways through the latents are asked in `scoring.py` and `exploring.py`. It knows no HTTP.
"""

from __future__ import annotations

import math
import secrets
from typing import Literal

from torch import Tensor

from model_store.vae import DiagonalGaussian, Point
from model_store.vae.noise import standard_normal
from model_store.vae.pixels import to_images
from model_store.vae.record import MAX_SAFE_INTEGER

from ..compute import capabilities
from ..compute.rows import Rows, concatenate, length, nbytes, split
from ..compute.torch_runtime import ForwardPass
from ..inference.batcher import Part
from ..inference.loader import ServedModel
from ..inference.registry import Registry
from ..offload import offload
from ..telemetry.timings import Timings
from .limits import Limits
from .results import Encoding, Errors, Reconstruction, Samples

Draw = Literal["mean", "sample"]
PixelType = Literal["float32", "uint8"]  # of images: in [0, 1], or rounded to 0 … 255, which is a quarter of the bytes


class Engine:
    """Answers questions about images with the models of a registry, within limits."""

    def __init__(self, registry: Registry, limits: Limits) -> None:
        self.registry = registry
        self.limits = limits

    async def encode(
        self, model: ServedModel, pixels: Tensor, timings: Timings, *, draw: Draw = "mean", seed: int | None = None
    ) -> Encoding:
        """Latents of uint8 pixels (B, C, H, W): the posterior's mean, or a draw from it.

        Raises:
            Meaningless: the model has no encoder.
            WrongShape, TooLarge: the images do not fit the model or the limits.
            Overloaded, Unavailable: not now.
        """
        posterior = await self.infer(model, pixels, timings)
        latents, seed = await _latents(model, posterior, draw, seed)
        return Encoding(latents, posterior.mean, posterior.log_variance, seed)

    async def decode(
        self, model: ServedModel, latents: Tensor, timings: Timings, *, pixel_type: PixelType = "float32"
    ) -> Tensor:
        """Images (B, C, H, W) from latents float32 (B, *latent_shape).

        Raises:
            WrongShape, BadValue, TooLarge: the latents do not fit the model or the limits.
            Overloaded, Unavailable: not now.
        """
        self.limits.check_latents(model, latents)
        return await self.images_of(model, latents, timings, pixel_type)

    async def sample(
        self,
        model: ServedModel,
        n: int,
        timings: Timings,
        *,
        seed: int | None = None,
        temperature: float = 1.0,
        pixel_type: PixelType = "float32",
    ) -> Samples:
        """Random images: latents drawn from the prior, decoded. Image i depends on the seed and i alone.

        Raises:
            Meaningless: the model has no prior.
            TooLarge: more images than the limits allow.
            Overloaded, Unavailable: not now.
        """
        capabilities.check(model.card.model, model.version, "sample")
        self.limits.check_count(model, n)
        model.batcher.check_room(n)
        seed = draw_seed() if seed is None else seed
        latents = model.prior.sample(await noise(seed, n, model.card.model.latent_shape), temperature)
        return Samples(await self.images_of(model, latents, timings, pixel_type), latents, seed)

    async def reconstruct(
        self,
        model: ServedModel,
        pixels: Tensor,
        timings: Timings,
        *,
        draw: Draw = "mean",
        seed: int | None = None,
        pixel_type: PixelType = "float32",
    ) -> Reconstruction:
        """Uint8 pixels (B, C, H, W) encoded and decoded again; rounded to uint8 they are not compared.

        Raises:
            Meaningless: the model has no encoder.
            WrongShape, TooLarge: the images do not fit the model or the limits.
            Overloaded, Unavailable: not now.
        """
        encoding = await self.encode(model, pixels, timings, draw=draw, seed=seed)
        images = await self.images_of(model, encoding.latents, timings, pixel_type)
        if pixel_type == "uint8":
            return Reconstruction(images, None, encoding.seed)
        mse = await offload(images.nbytes, _mean_squared_errors, images, pixels)
        return Reconstruction(images, Errors(mse, [_decibels(error) for error in mse]), encoding.seed)

    async def infer(self, model: ServedModel, pixels: Tensor, timings: Timings) -> DiagonalGaussian | Point:
        """What the encoder says of uint8 pixels (B, C, H, W), in normal coordinates.

        Raises:
            what `encode` raises.
        """
        capabilities.check(model.card.model, model.version, "encode")
        self.limits.check_images(model, pixels)
        outputs = await self.ask(model, "encode", timings, pixels)
        return Point(*outputs) if len(outputs) == 1 else DiagonalGaussian(*outputs)

    async def images_of(self, model: ServedModel, latents: Tensor, timings: Timings, pixel_type: PixelType) -> Tensor:
        """Images (B, C, H, W) of latents that are known to fit the model."""
        (images,) = await self.ask(model, "decode" if pixel_type == "float32" else "render", timings, latents)
        return images

    async def ask(self, model: ServedModel, operation: ForwardPass, timings: Timings, *inputs: Tensor) -> Rows:
        """What an operation of the runner gives for some rows, which are batched with those of others.

        Many rows go in parts, between which small requests may have their turn.
        """
        parts = _parts(inputs, model.runner.part(operation))
        answer = await model.batcher.ask(operation, parts, is_begun="queue" in timings.seconds)
        timings.add("queue", answer.queue_s)
        timings.add("compute", answer.compute_s)
        return await offload(sum(map(nbytes, answer.results[1:])), concatenate, answer.results)


def draw_seed() -> int:
    """A seed that cannot be guessed, for a request that names none; every JSON reader holds it exactly."""
    return secrets.randbelow(MAX_SAFE_INTEGER + 1)


async def noise(seed: int, count: int, shape: tuple[int, ...]) -> Tensor:
    """Noise (count, *shape) ~ N(0, I) of a seed; much of it is drawn in a thread."""
    return await offload(4 * count * math.prod(shape), standard_normal, seed, count, shape)


def _parts(inputs: Rows, at_most: int) -> list[Part[Rows]]:
    """The rows in parts of some at most."""
    parts = [inputs] if length(inputs) <= at_most else split(inputs, at_most)
    return [Part(part, length(part)) for part in parts]


async def _latents(
    model: ServedModel, posterior: DiagonalGaussian | Point, draw: Draw, seed: int | None
) -> tuple[Tensor, int | None]:
    """The mean, which needs no seed, or a draw and the seed that gives it again; a point is its own mean."""
    if draw == "mean" or isinstance(posterior, Point):
        return model.prior.from_normal(posterior.mean), None
    seed = draw_seed() if seed is None else seed
    count, *shape = posterior.mean.shape
    return model.prior.from_normal(posterior.sample(await noise(seed, count, tuple(shape)))), seed


def _mean_squared_errors(images: Tensor, pixels: Tensor) -> list[float]:
    errors: list[float] = (images - to_images(pixels)).square().flatten(1).mean(1).tolist()
    return errors


def _decibels(mse: float) -> float | None:
    """The peak signal-to-noise ratio of images in [0, 1]."""
    return -10 * math.log10(mse) if mse else None
