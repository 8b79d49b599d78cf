"""Model set: the models that are served at one moment, and the choice of the default model."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from hashlib import blake2b

from model_store import ModelVersion, StoreError

from .served_model import ServedModel


@dataclass(frozen=True)
class ModelSet:
    """The models that were loaded when the store was read, and the default model that the store named then.

    Attributes:
        default: a name or name@version; or the reason for which there is no default.
    """

    models: dict[ModelVersion, ServedModel]
    default: str | StoreError

    @cached_property
    def number(self) -> int:
        """A number by which workers tell whether they have loaded the same models and the same default."""
        weights = [(str(version), self.models[version].card.weights.sha256) for version in sorted(self.models)]
        return int.from_bytes(blake2b(repr((weights, str(self.default))).encode(), digest_size=8).digest())
