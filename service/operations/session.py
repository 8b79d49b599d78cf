"""Session: the model, limits, memory and timings that the operation of one request works with. It knows no HTTP.

An operation is a composition of the few forward passes that a device computes: encode, decode, render, score
and error map.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager, nullcontext
from math import prod
from typing import Literal, ParamSpec, TypeVar

from torch import Tensor

from model_store.families import ModelConfig
from model_store.vae import DiagonalGaussian, Point
from model_store.vae.family import Direction, ImageShape, Operation, SamplerName
from model_store.vae.pixels import inverted
from model_store.vae.priors import Prior

from ..compute.precision import direction_of
from ..compute.rows import Rows, concatenate, nbytes
from ..compute.torch_runtime import ForwardPass
from ..errors import LargeImagesWait, NotSupportedByModel, OutOfMemory, WrongLatentSpace
from ..inference.registry import Registry
from ..inference.served_model import ServedModel
from ..memory import Reservation
from ..offload import LIGHT_ARRAY_BYTES, offload
from ..offload.fair_semaphore import FairSemaphore, NoPlace
from ..telemetry.timings import Timings
from .limits import Limits
from .tiling import Grid, TileWish, decode_in_tiles, encode_in_tiles, grid_of, smaller_grid

MOST_TILED = 64  # requests that wait until their images are computed in tiles

P = ParamSpec("P")
T = TypeVar("T")

PixelType = Literal["float32", "uint8"]  # of images: in [0, 1], or rounded to 0 … 255, which is a quarter of the bytes
PIXEL_BYTES: dict[PixelType, int] = {"float32": 4, "uint8": 1}


class Sessions:
    """Opens a session for each request."""

    def __init__(self, registry: Registry, limits: Limits) -> None:
        self.registry = registry
        self.limits = limits
        # One at a time, the oldest first: images that took turns tile by tile would all be ready late, or too late.
        self._tiled = FairSemaphore(1, MOST_TILED)

    def open(self, reference: str | None, timings: Timings, memory: Reservation) -> Session:
        """A session with the model of that reference; None is the default model. The caller returns the memory.

        Raises:
            InvalidName, ModelNotFound, NoDefaultModel: there is no such model.
            Starting, NotServing: the models have not been read yet.
        """
        model = self.registry.find(reference)
        return Session(model, self.limits, timings, memory, lambda: self.registry.served, self._tiled)


class Session:
    """The model of one request, its limits, the timings that it fills in, and the memory that it holds.

    Attributes:
        config: the record of the model's family.
        client: whose turns it takes, and whose share of the memory.
        served: gives all models that are served now.
        tile_wish: whether and how large images are tiled.
        recomputed: images that were not finite in half precision, and were computed again.
        directions: the directions, encode and decode, that were computed.
        grid: the tiles in which images were computed at last; None if they were computed at once.
        written_bytes: memory to write the answer about each of a number of images of a shape, which depends on the
            format.
    """

    def __init__(
        self,
        model: ServedModel,
        limits: Limits,
        timings: Timings,
        memory: Reservation,
        served: Callable[[], Iterable[ServedModel]] = tuple,
        tiled: FairSemaphore | None = None,
    ) -> None:
        self.model = model
        self.config: ModelConfig = model.card.model
        self.limits = limits
        self.timings = timings
        self.memory = memory
        self.served = served
        self._tiled = tiled or FairSemaphore(1, MOST_TILED)
        self.client = memory.client
        self.tile_wish = TileWish()
        self.grid: Grid | None = None
        self.recomputed = 0
        self.directions: set[Direction] = set()
        self.written_bytes: Callable[[ImageShape, int], int] = lambda _, __: 0
        self._is_begun = False
        self._has_turn = False

    def preview(self) -> Session:
        """A session of the same request with the small model that the card names for previews.

        Raises:
            NotSupportedByModel: the card names none, or one that is not served or has another latent space or shapes.
        """
        name = self.model.card.preview
        if name is None:
            raise NotSupportedByModel(self.model.name, "has no preview", "leave out quality, or ask for quality=full")
        found = [other for other in self.served() if other.version.name == name]
        if not found or found[-1].space != self.space or not self._has_shapes_of(found[-1].card.model):
            reason = f"has the preview {name}, but no served model of that name has its latent space and its shapes"
            raise NotSupportedByModel(self.model.name, reason, "ask for quality=full, or publish that model")
        other = Session(found[-1], self.limits, self.timings, self.memory, self.served, self._tiled)
        other.tile_wish, other.written_bytes = self.tile_wish, self.written_bytes
        return other

    def _has_shapes_of(self, config: ModelConfig) -> bool:
        """Whether this model and another have the same channels and the same downscale."""
        own, other = (
            (each.image_shape, each.latent_shape, each.multiple if each.takes_any_size else None)
            for each in (self.config, config)
        )
        return own == other

    @property
    def prior(self) -> Prior:
        """The prior of the model, which maps normal coordinates to latents and back."""
        return self.model.prior

    def sampler(self, name: SamplerName | None = None) -> Prior:
        """The distribution of a name from which samples can be drawn; without a name the model's first.

        Raises:
            NotSupportedByModel: the model has none of that name; the message names the samplers that it has.
        """
        self.check_can("sample")
        known = self.config.sampler_names
        name = name or known[0]
        if name not in known:
            remedy = f"ask for sampler={' or '.join(known)}, or fit one with python -m training.fit_prior"
            raise NotSupportedByModel(str(self.model.version), f"has no sampler {name}", remedy)
        return self.prior if name == "prior" else self.model.samplers[name]

    async def by_prior(self, prior: Prior, size: int, function: Callable[P, T], *rows: P.args, **more: P.kwargs) -> T:
        """Call a function of a prior and of rows of that many bytes; in a thread for many rows, or a learned prior."""
        return await offload(LIGHT_ARRAY_BYTES + 1 if prior.is_learned else size, function, *rows, **more)

    @property
    def precision(self) -> str | None:
        """The words of the header `X-Precision`; None for a model that is computed as it is stored.

        They name the precision of the directions that were computed, and the images that were computed again.
        """
        kinds = {getattr(self.model.runner.precisions, direction) for direction in self.directions}
        names = ", ".join(sorted(str(kind).removeprefix("torch.") for kind in kinds if kind is not None))
        return f"{names}; recomputed={self.recomputed}" if names and self.recomputed else names or None

    def check_can(self, operation: Operation) -> None:
        """Check that a model of this family can do the operation.

        Raises:
            NotSupportedByModel: it cannot; the message names the missing part, and the remedy.
        """
        if lack := self.config.lacks(operation):
            raise NotSupportedByModel(str(self.model.version), *lack)

    @property
    def space(self) -> str:
        """The name of the space of the model's latents: the card's, or the name of the model where no other has it."""
        return self.model.space

    def check_space(self, space: str | None, latent_shape: Sequence[int]) -> None:
        """Check that the model decodes latents of a space; None is latents that do not name their space.

        Raises:
            WrongLatentSpace: it decodes another one; the message names the served models that can.
        """
        if space is None or space == self.space:
            return
        able = [other.name for other in self.served() if other.space == space]
        raise WrongLatentSpace(space, latent_shape, self.model.version, self.space, self.config.latent_shape, able)

    def admit(self, images: int, image_shape: ImageShape, *, latents: int, value_bytes: int) -> None:
        """Check the number of images (C, H, W), and reserve memory, before anything is made for the images.

        The request holds at most `latents` arrays of latents at the same time, and `value_bytes` for each value of an
        image. A later call replaces an earlier one that asked for less.

        Raises:
            TooLarge: the images are too many, or need too much memory.
            AnswerMemoryFull: the requests under way hold the memory.
        """
        self.admit_each({image_shape: images}, latents=latents, value_bytes=value_bytes)

    def admit_each(self, counts: Mapping[ImageShape, int], *, latents: int, value_bytes: int) -> None:
        """As `admit` does, for a number of images of each shape (C, H, W), which are held at the same time."""
        images = sum(counts.values())
        pixels = size = 0
        for shape, count in counts.items():
            pixels += count * shape[1] * shape[2]
            size += count * (self._held_bytes(shape, latents, value_bytes) + self.written_bytes(shape, images))
        self.limits.check_pixels(images, pixels)
        self.limits.check_bytes(size)
        self.memory.grow_to(size)

    def _held_bytes(self, image_shape: ImageShape, latents: int, value_bytes: int) -> int:
        """The memory of one image and its latents."""
        numbers = latents * prod(self.config.latent_shape_of(image_shape))
        return 4 * numbers + value_bytes * prod(image_shape)

    def check_room(self, images: int) -> None:
        """Check that the queue has room, before work is done that would be lost.

        Raises:
            QueueFull: the queue has no room for that many images of this client.
        """
        self.model.batcher.check_room(images, self.client)

    async def encode_raw(self, pixels: Tensor) -> DiagonalGaussian | Point:
        """The encoder's answer to uint8 pixels (B, C, H, W), in the posterior's coordinates.

        Raises:
            NotSupportedByModel: the model has no encoder.
            WrongShape, TooLarge: the images do not fit the model or the limits.
            QueueFull, Unavailable: the service has no capacity now.
        """
        self.check_can("encode")
        self.limits.check_images(self.model, pixels)
        _, channels, height, width = pixels.shape
        pixels = await self.negatives_if_trained_so(pixels)

        async def compute(grid: Grid | None) -> Rows:
            if grid is None:
                return await self.forward("encode", pixels)
            return await encode_in_tiles(self.forward, self.config, pixels, grid)

        outputs = await self._in_memory((channels, height, width), compute)
        return Point(*outputs) if len(outputs) == 1 else DiagonalGaussian(*outputs)

    async def images_of(self, latents: Tensor, pixel_type: PixelType) -> Tensor:
        """Images (B, C, H, W) of latents that are known to fit the model.

        Raises:
            QueueFull, Unavailable: the service has no capacity now.
        """
        is_rendered = pixel_type == "uint8"

        async def compute(grid: Grid | None) -> Tensor:
            if grid is None:
                (images,) = await self.forward("render" if is_rendered else "decode", latents)
                return images
            return await decode_in_tiles(self.forward, self.config, latents, grid, is_rendered=is_rendered)

        images = await self._in_memory(self.config.image_shape_of(tuple(latents.shape[1:])), compute)
        return await self.negatives_if_trained_so(images)

    async def negatives_if_trained_so(self, images: Tensor) -> Tensor:
        """Pixels or images as the network knows them, or the network's as a client knows them.

        They are negatives where the training has inverted its images.
        """
        return await offload(images.nbytes, inverted, images) if self.model.card.is_inverted else images

    async def _in_memory(self, image_shape: ImageShape, compute: Callable[[Grid | None], Awaitable[T]]) -> T:
        """Compute images of a shape: in tiles where one would take too much memory, in smaller ones if memory runs out.

        Raises:
            TooLarge, BadValue: no tiles fit, or the wished tiles are not possible.
            OutOfMemory: the smallest tiles do not fit now.
            LargeImagesWait: too many wait for their tiles already.
        """
        grid = self._grid_of(image_shape)
        while True:
            self.grid = grid or self.grid
            try:
                if grid is None:
                    return await compute(None)
                async with self._turn():
                    return await compute(grid)
            except OutOfMemory:
                smaller = smaller_grid(self.config, image_shape, grid, self.tile_wish)
                if smaller is None or self.tile_wish.side == "never":
                    raise
                grid = smaller

    @asynccontextmanager
    async def turn_if_tiled(self, image_shape: ImageShape) -> AsyncIterator[None]:
        """Keep the turn for tiles between the passes of this block, if images of a shape (C, H, W) are tiled.

        Raises:
            TooLarge, BadValue, LargeImagesWait: as for the passes themselves.
        """
        async with nullcontext() if self._grid_of(image_shape) is None else self._turn():
            yield

    @asynccontextmanager
    async def _turn(self) -> AsyncIterator[None]:
        """Wait until this session may compute tiles; a block inside of another has the turn already."""
        if self._has_turn:
            yield
            return
        began = time.perf_counter()
        try:
            async with self._tiled.place(self.client):
                self.timings.add("queue", time.perf_counter() - began)
                self._has_turn = True
                try:
                    yield
                finally:
                    self._has_turn = False
        except NoPlace:
            raise LargeImagesWait from None

    def _grid_of(self, image_shape: ImageShape) -> Grid | None:
        return grid_of(self.config, image_shape, self.tile_wish, self.model.cost_of, self.limits)

    async def forward(self, name: ForwardPass, *inputs: Tensor) -> Rows:
        """The outputs of a forward pass. Rows of several requests share a batch.

        Many rows are computed in parts, so that small requests can be computed between the parts.
        The first forward pass of a session may find the queue full. Later ones are always admitted: the results of the
        earlier ones would be lost.

        Raises:
            QueueFull, Unavailable: the service has no capacity now.
        """
        answer = await self.model.forward(name, inputs, client=self.client, is_begun=self._is_begun)
        self._is_begun = True
        self.recomputed += sum(getattr(rows, "recomputed", 0) for rows in answer.results)
        self.directions.add(direction_of(name))
        self.timings.add("queue", answer.queue_s)
        self.timings.add("compute", answer.compute_s)
        return await offload(sum(map(nbytes, answer.results[1:])), concatenate, answer.results)
