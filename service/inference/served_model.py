"""A stored model that answers requests: its card, its prior, and the queue in front of the device."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

from model_store import Card, ModelVersion
from model_store.vae.priors import NoPrior, Prior

from ..compute.rows import Rows, length, split
from ..compute.runner import Runner
from ..compute.torch_runtime import ForwardPass
from .batcher import PART_S, Batcher
from .work_queue import Answer, Part


class BatchKey(NamedTuple):
    """A forward pass and the shape of one row of each input. Only rows with the same key share a batch."""

    forward_pass: ForwardPass
    shapes: tuple[tuple[int, ...], ...]


@dataclass(frozen=True, eq=False)
class ServedModel:
    """A version that is served: its card, its prior, and the batcher in front of its runner."""

    version: ModelVersion
    card: Card
    prior: Prior | NoPrior
    batcher: Batcher[BatchKey, Rows, Rows]
    runner: Runner

    @cached_property
    def name(self) -> str:
        """`name@version`, the form in which every answer names the model."""
        return str(self.version)

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
