"""Model set: the models that are served at one moment, and the choice of the default model."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from hashlib import blake2b

from model_store import ModelVersion, StoreError, newest

from .served_model import ServedModel


@dataclass(frozen=True)
class ModelSet:
    """The models that were loaded when the store was read, and its default model, aliases and calibrations of then.

    Attributes:
        default: a name, name@version or name@alias; or the reason for which there is no default.
        aliases: the version that each `name@alias` means; the version is one of the models.
        calibrations: words for each calibration that the models have, which differ if its file was replaced.
    """

    models: dict[ModelVersion, ServedModel]
    default: str | StoreError
    aliases: dict[str, ModelVersion] = field(default_factory=dict)
    calibrations: list[str] = field(default_factory=list)

    @cached_property
    def number(self) -> int:
        """A number by which workers tell whether they have loaded the same models with all that belongs to them."""
        weights = [(str(version), self.models[version].card.weights.sha256) for version in sorted(self.models)]
        everything = weights, str(self.default), sorted(self.aliases.items()), sorted(self.calibrations)
        return int.from_bytes(blake2b(repr(everything).encode(), digest_size=8).digest())

    def find(self, reference: str) -> ServedModel:
        """The model of a name, name@version or name@alias.

        Raises:
            InvalidName: the reference has none of these forms.
            ModelNotFound: no such model is in the set.
        """
        version = self.aliases.get(reference) or newest(reference, self.models)
        return self.models[version]
