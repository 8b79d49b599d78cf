"""Loader: reads a version from the store, brings it onto the device, warms it up, and puts a queue in front."""

from __future__ import annotations

import asyncio
from contextlib import ExitStack
from functools import partial
from typing import Protocol, cast

import structlog

from model_store import Card, ModelVersion, Store
from model_store.free_memory import return_freed_memory
from model_store.vae import Prior

from ..compute.device import Device
from ..compute.plan_cache import PlanCache
from ..compute.precision import choose_precisions
from ..compute.prior_in_blocks import in_blocks
from ..compute.rows import Rows
from ..compute.runner import Runner, is_out_of_memory
from ..errors import OutOfMemory
from .batcher import Batcher
from .load_attempts import LoadAttempts
from .served_model import BatchKey, ServedModel

INEXACT = "on this machine no batch size gives the same bytes each time"

log = structlog.get_logger()


class WorkEvents(Protocol):
    """Counters of the work of models."""

    def batch_computed(self, forward_pass: str, images: int) -> None:
        """Count a forward pass of a batch of that many images."""

    def queue_changed(self, model: str, images: int) -> None:
        """Note how many images wait for a model."""

    def out_of_memory(self) -> None:
        """Count a batch that did not fit into the device's memory."""

    def images_recomputed(self, model: str, images: int) -> None:
        """Count images of a model that were finite only in float32."""


class Loader:
    """Loads versions of one store onto one device."""

    def __init__(
        self,
        store: Store,
        device: Device,
        events: WorkEvents,
        cache: PlanCache,
        attempts: LoadAttempts,
        *,
        max_batch_images: int,
        queue_images: int,
    ) -> None:
        self.store = store
        self.device = device
        self._events = events
        self._cache = cache
        self.attempts = attempts
        self._max_batch_images = max_batch_images
        self._queue_images = queue_images

    async def load(self, version: ModelVersion, *, is_undisturbed: bool) -> ServedModel:
        """Load a version and warm it up.

        If requests are computed meanwhile, the warm-up is not `is_undisturbed`, and its plans are not cached: the
        measured times may be too long.

        Raises:
            StoreError: the version cannot be read.
            EndsProcess: loading it has ended the process before.
            NotFiniteModel, TooSlow: its answers are not finite, or one image takes too long.
            OutOfMemory: the device has no room for the model now.
            DeviceLost, DeviceHung: the device has failed.
        """
        with ExitStack() as attempt:
            card = await asyncio.to_thread(self.store.card, version)
            noted = self.attempts.attempt(version, card, f"{self.device} {self.device.dtype}")
            await asyncio.to_thread(attempt.enter_context, noted)
            return await self._load(version, is_undisturbed=is_undisturbed)

    async def _load(self, version: ModelVersion, *, is_undisturbed: bool) -> ServedModel:
        stored = await asyncio.to_thread(self.store.load, version)
        prior = in_blocks(stored.model.prior)  # before the network is changed for its device
        samplers = {kind: in_blocks(cast("Prior", sampler)) for kind, sampler in stored.model.samplers.items()}
        try:
            runner = await self.device.prepare(
                Runner,
                stored.model,
                self.device,
                self._max_batch_images,
                self._events.out_of_memory,
                choose_precisions(stored.card, self.device.torch_device, self.device.dtype),
                partial(self._events.images_recomputed, str(version)),
            )
            await self._warm_up(runner, stored.card, is_undisturbed=is_undisturbed)
            # of the weights in the precision of their file, and of the warm-up: 170 MiB for an AutoencoderKL
            await asyncio.to_thread(return_freed_memory)
        except Exception as error:
            if not is_out_of_memory(error):
                raise
            raise OutOfMemory from error
        if self.device.is_exact and not runner.is_exact:
            log.warning("the same seed gives the same image but for rounding", model=str(version), reason=INEXACT)
        self._events.queue_changed(str(version), 0)
        batcher: Batcher[BatchKey, Rows, Rows] = Batcher(
            lambda key, payloads: runner.run(key.forward_pass, payloads),
            images_within=lambda key, seconds: runner.plans[key.forward_pass].images_within(seconds),
            queue_images=self._queue_images,
            batch_computed=lambda key, images: self._events.batch_computed(key.forward_pass, images),
            queue_changed=partial(self._events.queue_changed, str(version)),
        )
        return ServedModel(version, stored.card, prior, batcher, runner, samplers)

    async def _warm_up(self, runner: Runner, card: Card, *, is_undisturbed: bool) -> None:
        """Take the plans from the cache, if the same weights were served before, or measure them."""
        more = {
            "weights": card.weights.sha256,
            "max_batch_images": str(self._max_batch_images),
            "precisions": str(runner.precisions),
        }
        facts = await self.device.prepare(self.device.facts) | more
        known = await asyncio.to_thread(self._cache.recall, facts)
        found = await runner.warm_up(known)
        if found != known and is_undisturbed:
            await asyncio.to_thread(self._cache.store, facts, found)
