"""Candidate: a model that was read from a source and is not published yet."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import islice
from typing import NamedTuple, TypeVar

from pydantic import ValidationError
from torch import Tensor

from ..card import Source
from ..families import Network
from ..vae.family import FamilyConfig
from ..vae.pretrained import PretrainedConfig
from ..vae.record import validation_messages
from ..weights import differences
from .source_folder import SourceFolder

Config = TypeVar("Config", bound=FamilyConfig)

MAX_REASONS = 4


class Wishes(NamedTuple):
    """The name of the new model, and what a person may state about a source; None where the source decides."""

    name: str
    latent_space: str | None = None
    licence: str | None = None


@dataclass(frozen=True)
class Candidate:
    """A model with its weights, on the CPU; its record; its origin; and sentences for the person who imports it."""

    model: Network
    config: PretrainedConfig
    source: Source
    notes: tuple[str, ...] = ()


def checked(kind: type[Config], fields: Mapping[str, object], folder: SourceFolder) -> Config:
    """The record of a family with these fields.

    Raises:
        CannotImport: the family does not have such a network.
    """
    try:
        return kind.model_validate(fields)
    except ValidationError as error:
        reasons = validation_messages(error, kind)[:MAX_REASONS]
        raise folder.refusal(*reasons, remedy="Name the folder of another model, or another option") from error


def filled(model: Network, state: Mapping[str, Tensor], folder: SourceFolder) -> Network:
    """An `empty` network with the tensors of a source, for inference.

    Raises:
        CannotImport: tensors are missing, unexpected, of another shape or type, or not finite; a few are named.
    """
    if reasons := list(islice(differences(state, model.state_dict()), MAX_REASONS)):
        remedy = "The files are damaged, or of another network: copy them again, or name another folder"
        raise folder.refusal(*reasons, remedy=remedy)
    model.load_state_dict(state, assign=True)
    return model.eval().requires_grad_(False)
