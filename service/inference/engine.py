"""Engine: the questions that a variational autoencoder can answer, each a composition of its few operations.

Noise is drawn here, for each request from its own seed and before batching, so that an answer never depends on who
shared the batch. It knows no HTTP.
"""

from __future__ import annotations

import math
import secrets
from collections.abc import Sequence
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from model_store.vae import (
    BernoulliConfig,
    DiagonalGaussian,
    DiscretisedLogisticConfig,
    Estimate,
    Point,
    UniformConfig,
    bits_per_dimension,
)
from model_store.vae.noise import MAX_SEED, derived_seed, draw, standard_normal, uniform
from model_store.vae.pixels import binarise, threshold, to_images, to_pixels

from ..aside import aside
from ..errors import BadValue, Meaningless, TooLarge, WrongShape
from ..timings import Timings
from . import paths
from .registry import Registry, ServedModel
from .results import Encoding, Grid, Reconstruction, Samples, Score
from .runner import Outputs

Draw = Literal["mean", "sample"]
Binarise = Literal["sample", "threshold"]

LARGEST_LATENT = 10_000.0

_SCORED_TOGETHER = 64  # images times draws; after each of these, other callers have their turn
_ROWS = 8


class Engine:
    """Answers questions about images with the models of a registry."""

    def __init__(self, registry: Registry, *, max_images: int, max_pixels: int, max_importance_samples: int) -> None:
        self.registry = registry
        self._max_importance_samples = max_importance_samples
        self._max_images = max_images
        self._max_pixels = max_pixels

    async def encode(
        self, model: ServedModel, pixels: Tensor, timings: Timings, *, draw: Draw = "mean", seed: int | None = None
    ) -> Encoding:
        """Latents of uint8 pixels (B, C, H, W): the posterior's mean, or a draw from it.

        Raises:
            Meaningless: the model has no encoder.
            WrongShape, TooLarge: the images do not fit the model or the limits.
            Overloaded, Unavailable: not now.
        """
        posterior = await self._infer(model, pixels, timings)
        latents, seed = await _latents(model, posterior, draw, seed)
        return Encoding(latents, posterior.mean, posterior.log_variance, seed)

    async def decode(self, model: ServedModel, latents: Tensor, timings: Timings) -> Tensor:
        """Images float32 (B, C, H, W) in [0, 1] from latents float32 (B, *latent_shape).

        Raises:
            WrongShape, BadValue, TooLarge: the latents do not fit the model or the limits.
            Overloaded, Unavailable: not now.
        """
        self._check_shape(model, "A latent is", latents, model.card.model.latent_shape)
        _check_values(model, latents)
        (images,) = await self._ask(model, "decode", timings, latents)
        return images

    async def sample(
        self, model: ServedModel, n: int, timings: Timings, *, seed: int | None = None, temperature: float = 1.0
    ) -> Samples:
        """Random images: latents drawn from the prior, decoded. Image i depends on the seed and i alone.

        Raises:
            Meaningless: the model has no prior.
            TooLarge: more images than the limits allow.
            Overloaded, Unavailable: not now.
        """
        _check_prior(model, "sample")
        self._check_count(model, n)
        seed = draw_seed() if seed is None else seed
        latents = model.prior.sample(await _noise(seed, n, model.card.model.latent_shape), temperature)
        return Samples(await self.decode(model, latents, timings), latents, seed)

    async def reconstruct(
        self, model: ServedModel, pixels: Tensor, timings: Timings, *, draw: Draw = "mean", seed: int | None = None
    ) -> Reconstruction:
        """Uint8 pixels (B, C, H, W) encoded and decoded again.

        Raises:
            Meaningless: the model has no encoder.
            WrongShape, TooLarge: the images do not fit the model or the limits.
            Overloaded, Unavailable: not now.
        """
        encoding = await self.encode(model, pixels, timings, draw=draw, seed=seed)
        images = await self.decode(model, encoding.latents, timings)
        mse = await aside(images.nbytes, _mean_squared_errors, images, pixels)
        return Reconstruction(images, mse, [_decibels(error) for error in mse], encoding.seed)

    async def score(
        self,
        model: ServedModel,
        pixels: Tensor,
        timings: Timings,
        *,
        importance_samples: int = 1,
        binarised: Binarise = "sample",
        seed: int | None = None,
    ) -> Score:
        """What the model thinks of uint8 pixels (B, C, H, W): its bounds, by so many posterior draws for each.

        Raises:
            Meaningless: the model has no posterior distribution.
            WrongShape, TooLarge: the images do not fit the model or the limits.
            Overloaded, Unavailable: not now.
        """
        _check_posterior(model)
        if importance_samples > self._max_importance_samples:
            limit = self._max_importance_samples
            raise TooLarge("importance_samples", size=importance_samples, limit=limit, unit="draws")
        self._check_shape(model, "An image is", pixels, model.card.model.image_shape)
        seed = draw_seed() if seed is None else seed
        judged, protocol = await aside(pixels.nbytes, _judged, model, pixels, binarised, seed)
        known = Estimate(DiagonalGaussian(*await self._ask(model, "encode", timings, judged)))
        together = max(1, _SCORED_TOGETHER // len(judged))
        for first in range(0, importance_samples, together):
            draws = range(first, min(first + together, importance_samples))
            await self._draw(model, judged, known, draws, seed, timings)
        return _score(model, known, f"{protocol}, K = {importance_samples} posterior draws, seed {seed}", seed)

    async def interpolate(
        self, model: ServedModel, pair: Tensor, timings: Timings, *, steps: int, path: paths.Path
    ) -> Grid:
        """The images between two, which are uint8 pixels (2, C, H, W) or latents float32 (2, *latent_shape).

        Raises:
            Meaningless: images, but the model has no encoder.
            WrongShape, BadValue, TooLarge: they are not two, or do not fit the model or the limits.
            Overloaded, Unavailable: not now.
        """
        self._check_count(model, steps)
        if len(pair) != 2:
            raise BadValue(f"An interpolation is between two images or latents, not {len(pair)}; send two.")
        start, end = await self._ends(model, pair, timings)
        latents = model.prior.from_normal(paths.between(start, end, steps, path))
        return Grid(await self.decode(model, latents, timings), columns=steps)

    async def traverse(
        self,
        model: ServedModel,
        timings: Timings,
        *,
        dims: Sequence[int] | None,
        steps: int,
        span: float,
        seed: int | None = None,
    ) -> Grid:
        """One latent, moved along some dimensions, a row each: the prior's middle, or with a seed a draw from it.

        Without `dims` it moves along those that tell most of an image.

        Raises:
            Meaningless: the model has neither a prior nor, in its card, statistics of its latents.
            BadValue, TooLarge: a dimension that there is not, or more images than the limits allow.
            Overloaded, Unavailable: not now.
        """
        dims = _telling_dims(model) if dims is None else dims
        values = math.prod(model.card.model.latent_shape)
        if wrong := [dim for dim in dims if not 0 <= dim < values]:
            raise BadValue(f"There is no dimension {wrong[0]} in {model.version}; take 0 to {values - 1}.")
        self._check_count(model, steps * len(dims))
        centre, spread = await _middle(model, seed)
        latents = model.prior.from_normal(paths.along(centre, spread, dims, steps, span))
        return Grid(await self.decode(model, latents, timings), columns=steps, seed=seed)

    async def _infer(self, model: ServedModel, pixels: Tensor, timings: Timings) -> DiagonalGaussian | Point:
        """What the encoder says of uint8 pixels (B, C, H, W)."""
        if model.card.model.posterior == "none":
            raise Meaningless(str(model.version), "has no encoder", "sample and decode work")
        self._check_shape(model, "An image is", pixels, model.card.model.image_shape)
        outputs = await self._ask(model, "encode", timings, pixels)
        return Point(*outputs) if len(outputs) == 1 else DiagonalGaussian(*outputs)

    async def _draw(
        self, model: ServedModel, judged: Tensor, known: Estimate, draws: range, seed: int, timings: Timings
    ) -> None:
        """Some posterior draws of all images, computed together, for what is known of them."""
        shape = model.card.model.latent_shape
        normals = [known.posterior.sample(draw(seed, number, len(judged), shape)) for number in draws]
        latents = model.prior.from_normal(torch.cat(normals))
        (nats,) = await self._ask(model, "score", timings, judged.repeat(len(draws), 1, 1, 1), latents)
        for normal, log_likelihood in zip(normals, torch.split(nats, len(judged)), strict=True):
            known.add(normal, log_likelihood)

    async def _ends(self, model: ServedModel, pair: Tensor, timings: Timings) -> Tensor:
        """Two latents in normal coordinates: those of the images, or the ones that were sent."""
        if pair.dtype == torch.uint8:
            return (await self._infer(model, pair, timings)).mean
        self._check_shape(model, "A latent is", pair, model.card.model.latent_shape)
        _check_values(model, pair)
        return model.prior.to_normal(pair)

    async def _ask(self, model: ServedModel, operation: str, timings: Timings, *inputs: Tensor) -> Outputs:
        answer = await model.batcher.ask(operation, inputs, len(inputs[0]))
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


def _check_values(model: ServedModel, latents: Tensor) -> None:
    if isinstance(model.card.model.prior, UniformConfig):
        if not ((latents >= 0) & (latents <= 1)).all():
            raise BadValue(f"Latents of {model.version} are within 0 and 1, its prior being uniform; send such.")
    elif not latents.abs().le(LARGEST_LATENT).all():
        raise BadValue(
            f"Latents must be finite and within ±{LARGEST_LATENT:g}; those of images lie within a few units of 0."
        )


def _check_prior(model: ServedModel, what: str) -> None:
    if model.card.model.posterior == "point":
        reason = f"is a plain autoencoder, which has no prior to {what} from"
        raise Meaningless(str(model.version), reason, "decode latents of your own, or interpolate between images")


def _check_posterior(model: ServedModel) -> None:
    kinds = {"point": "is a plain autoencoder and gives a point", "none": "has no encoder and so gives nothing"}
    if reason := kinds.get(model.card.model.posterior):
        raise Meaningless(
            str(model.version), f"{reason} where a score needs a distribution q(z|x)", "ask a variational autoencoder"
        )


def draw_seed() -> int:
    """A seed that nobody can guess, for a request that names none."""
    return secrets.randbelow(MAX_SEED + 1)


def _judged(model: ServedModel, pixels: Tensor, binarised: Binarise, seed: int) -> tuple[Tensor, str]:
    """The uint8 pixels whose likelihood is stated, and in words how they were made."""
    if not isinstance(model.card.model.likelihood, BernoulliConfig):
        return pixels, "8-bit pixels as they are"
    if binarised == "threshold":
        return to_pixels(threshold(pixels)), "binarised at the middle grey"
    noise = uniform(derived_seed(seed, "pixels"), len(pixels), tuple(pixels.shape[1:]))
    return to_pixels(binarise(pixels, noise)), "binarised once by the grey values"


def _score(model: ServedModel, known: Estimate, protocol: str, seed: int) -> Score:
    bound, config = known.bound, model.card.model
    is_8_bit = isinstance(config.likelihood, DiscretisedLogisticConfig)
    usual = model.card.scores
    return Score(
        elbo_nats=bound.elbo_nats,
        log_likelihood_nats=bound.log_likelihood_nats,
        kl_nats=bound.kl_nats,
        importance_weighted_nats=known.importance_weighted_nats,
        bits_per_dimension=bits_per_dimension(bound.elbo_nats, config.image_shape) if is_8_bit else None,
        percentile=None if usual is None else np.interp(bound.elbo_nats, usual.elbo_nats, np.arange(101.0)).tolist(),
        protocol=protocol,
        seed=seed,
    )


def _telling_dims(model: ServedModel) -> list[int]:
    """The dimensions that tell most of an image: of the largest KL, or for points of the largest spread."""
    latents = model.card.latents
    if latents is None:
        return list(range(min(_ROWS, math.prod(model.card.model.latent_shape))))
    worth = latents.kl_nats or latents.standard_deviation
    return sorted(range(len(worth)), key=lambda dim: -worth[dim])[:_ROWS]


async def _middle(model: ServedModel, seed: int | None) -> tuple[Tensor, Tensor]:
    """A latent to begin with and how far one standard deviation goes, both (*latent_shape) in normal coordinates."""
    shape = model.card.model.latent_shape
    if model.card.model.posterior != "point":
        centre = torch.zeros(shape) if seed is None else (await _noise(seed, 1, shape))[0]
        return centre, torch.ones(shape)
    if seed is not None:
        _check_prior(model, "draw")
    if (latents := model.card.latents) is None:
        reason = "is a plain autoencoder whose card does not say where its latents lie"
        raise Meaningless(str(model.version), reason, "decode latents of your own")
    return torch.tensor(latents.mean).view(shape), torch.tensor(latents.standard_deviation).view(shape)


async def _latents(
    model: ServedModel, posterior: DiagonalGaussian | Point, draw: Draw, seed: int | None
) -> tuple[Tensor, int | None]:
    """The mean, which needs no seed, or a draw and the seed that gives it again; a point is its own mean."""
    if draw == "mean" or isinstance(posterior, Point):
        return model.prior.from_normal(posterior.mean), None
    seed = draw_seed() if seed is None else seed
    count, *shape = posterior.mean.shape
    return model.prior.from_normal(posterior.sample(await _noise(seed, count, tuple(shape)))), seed


async def _noise(seed: int, count: int, shape: tuple[int, ...]) -> Tensor:
    return await aside(4 * count * math.prod(shape), standard_normal, seed, count, shape)


def _mean_squared_errors(images: Tensor, pixels: Tensor) -> list[float]:
    errors: list[float] = (images - to_images(pixels)).square().flatten(1).mean(1).tolist()
    return errors


def _decibels(mse: float) -> float | None:
    """The peak signal-to-noise ratio of images in [0, 1]."""
    return -10 * math.log10(mse) if mse else None
