"""Loader: a version of the store becomes a model that answers, on its device, warmed up, with a queue in front."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import Protocol

import structlog

from model_store import Card, ModelVersion, Store

from ..compute.device import Device
from ..compute.plan_cache import PlanCache
from ..compute.rows import Rows
from ..compute.runner import Runner, is_out_of_memory
from ..errors import OutOfMemory
from .batcher import Batcher
from .served_model import BatchKey, ServedModel

INEXACT = "on this machine no batch size gives the same bytes each time; ETags are weak"

log = structlog.get_logger()


class WorkEvents(Protocol):
    """Counts what models compute."""

    def batch_computed(self, operation: str, images: int) -> None:
        """A batch of that many images was computed."""

    def queue_changed(self, model: str, images: int) -> None:
        """That many images wait for a model."""

    def out_of_memory(self) -> None:
        """A batch did not fit into the device's memory."""


class Loader:
    """Reads versions of a store, for one device."""

    def __init__(
        self,
        store: Store,
        device: Device,
        events: WorkEvents,
        cache: PlanCache,
        *,
        max_batch_images: int,
        queue_images: int,
    ) -> None:
        self.store = store
        self.device = device
        self._events = events
        self._cache = cache
        self._max_batch_images = max_batch_images
        self._queue_images = queue_images

    async def load(self, version: ModelVersion, *, is_undisturbed: bool) -> ServedModel:
        """The version, ready to answer. What a warm-up finds beside requests is not remembered.

        Raises:
            StoreError: it cannot be read.
            OutOfMemory: the device has no room for it now.
            DeviceLost, DeviceHung: the device has failed.
        """
        stored = await asyncio.to_thread(self.store.load, version)
        try:
            runner = await self.device.prepare(
                Runner, stored.model, self.device, self._max_batch_images, self._events.out_of_memory
            )
            await self._warm_up(runner, stored.card, is_undisturbed=is_undisturbed)
        except Exception as error:
            if not is_out_of_memory(error):
                raise
            raise OutOfMemory from error
        if self.device.is_exact and not runner.is_exact:
            log.warning("the same seed gives the same image but for rounding", model=str(version), reason=INEXACT)
        self._events.queue_changed(str(version), 0)
        batcher: Batcher[BatchKey, Rows, Rows] = Batcher(
            lambda key, payloads: runner.run(key.forward_pass, payloads),
            max_batch_images=lambda key: runner.max_images(key.forward_pass),
            queue_images=self._queue_images,
            batch_computed=lambda key, images: self._events.batch_computed(key.forward_pass, images),
            queue_changed=partial(self._events.queue_changed, str(version)),
        )
        return ServedModel(version, stored.card, stored.model.prior, batcher, runner)

    async def _warm_up(self, runner: Runner, card: Card, *, is_undisturbed: bool) -> None:
        """As found when the same weights were served before, or found now."""
        more = {"weights": card.weights.sha256, "max_batch_images": str(self._max_batch_images)}
        facts = await self.device.prepare(self.device.facts) | more
        known = await asyncio.to_thread(self._cache.recall, facts)
        found = await runner.warm_up(known)
        if found != known and is_undisturbed:
            await asyncio.to_thread(self._cache.store, facts, found)
