"""A stored model that answers requests: its card, its prior, and the queue in front of the device."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from math import prod
from typing import NamedTuple

import torch

from model_store import Calibration, Card, ModelVersion
from model_store.vae.family import ImageShape
from model_store.vae.priors import Prior

from ..compute.rows import Rows, length, split
from ..compute.runner import Runner
from ..compute.torch_runtime import ForwardPass
from .batcher import PART_S, Batcher
from .work_queue import Answer, Part

CONSTANT_BYTES = 16 * 2**20  # of kernels and their buffers, for the smallest image too


class Cost(NamedTuple):
    """The memory in bytes, and the seconds, of a forward pass of one image."""

    size: int
    seconds: float


class BatchKey(NamedTuple):
    """A forward pass and the shape of one row of each input. Only rows with the same key share a batch."""

    forward_pass: ForwardPass
    shapes: tuple[tuple[int, ...], ...]


@dataclass(frozen=True, eq=False)
class ServedModel:
    """A version that is served: its card, its prior, and the batcher in front of its runner.

    `samplers` are distributions of latents by their kind, which were fitted to the model after its training. Its
    calibrations come and go while it is served: a model with others is another record with the same batcher.
    """

    version: ModelVersion
    card: Card
    prior: Prior
    batcher: Batcher[BatchKey, Rows, Rows]
    runner: Runner
    samplers: Mapping[str, Prior] = field(default_factory=dict)
    calibrations: Mapping[str, Calibration] = field(default_factory=dict)

    @cached_property
    def name(self) -> str:
        """`name@version`, the form in which every answer names the model."""
        return str(self.version)

    @property
    def space(self) -> str:
        """The name of the space of the latents: the card's, or the name of the model where no other model has it."""
        return self.card.model.space or self.version.name

    def cost_of(self, image_shape: ImageShape) -> Cost:
        """The memory and the time of a forward pass of an image (C, H, W), in the direction that needs more.

        They follow from what the import has measured for each megapixel on a CPU. Where it has measured nothing, the
        memory is the family's bound, and the time is not known. On a GPU the memory is the bound if that is more: the
        maps of a GPU are not computed in strips.
        """
        bound = self.card.model.activation_bytes_of(image_shape)
        kinds = self.runner.precisions._asdict()
        costs = [self._cost_of_megapixel(direction, kind or torch.float32) for direction, kind in kinds.items()]
        if None in costs:
            return Cost(bound, 0.0)
        megapixels = prod(image_shape[1:]) / 1e6
        size = int(max(cost.size for cost in costs if cost) * megapixels) + CONSTANT_BYTES
        seconds = max(cost.seconds for cost in costs if cost) * megapixels
        return Cost(size if self.runner.is_on_cpu else max(size, bound), seconds)

    def _cost_of_megapixel(self, direction: str, kind: torch.dtype) -> Cost | None:
        """The cost that the import has measured for a type of numbers, or the cost that follows from float32's.

        Half precision takes half of the time and of the memory; but an encoder in bfloat16 takes the whole memory,
        because its sums are float32.
        """
        half = f"{direction}_bfloat16"
        if kind == torch.bfloat16 and (size := self._measured(f"{half}_bytes_per_megapixel")) is not None:
            return Cost(int(size), self._measured(f"{half}_s_per_megapixel") or 0.0)
        size = self._measured(f"{direction}_bytes_per_megapixel")
        if size is None:
            return None
        share = kind.itemsize / torch.float32.itemsize
        of_memory = 1.0 if (direction, kind) == ("encode", torch.bfloat16) else share
        return Cost(int(size * of_memory), (self._measured(f"{direction}_s_per_megapixel") or 0.0) * share)

    def _measured(self, name: str) -> float | None:
        metric = self.card.metric(name)
        return None if metric is None else metric.value

    @cached_property
    def card_json(self) -> bytes:
        """The card as JSON, written once: a card may have 100,000 numbers, and each request would write them again."""
        return self.card.model_dump_json().encode()

    async def forward(
        self, forward_pass: ForwardPass, rows: Rows, *, client: str = "", is_begun: bool = False
    ) -> Answer[Rows]:
        """Compute a forward pass of some rows of a client, in batches that other requests share.

        Many rows are computed in parts, and the answer has the results of each part. A request that `is_begun` is
        always admitted.

        Raises:
            QueueFull, Unavailable: the service has no capacity now.
        """
        at_most = self.runner.plans[forward_pass].images_within(PART_S)
        parts = [rows] if length(rows) <= at_most else split(rows, at_most)
        key = BatchKey(forward_pass, tuple(tensor.shape[1:] for tensor in rows))
        return await self.batcher.ask(
            key, [Part(part, length(part)) for part in parts], client=client, is_begun=is_begun
        )
