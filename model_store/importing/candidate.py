"""Candidate: a model that was read from a source and is not published yet."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import islice
from typing import NamedTuple, TypeVar

from pydantic import ValidationError
from torch import Tensor, nn

from ..card import Source
from ..families import Network
from ..vae.pretrained import PretrainedConfig
from ..vae.record import Record, validation_messages
from ..weights import differences
from .source_folder import SourceFolder

Checked = TypeVar("Checked", bound=Record)

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


def checked(kind: type[Checked], fields: Mapping[str, object], folder: SourceFolder) -> Checked:
    """The record with these fields, whose values are JSON.

    Raises:
        CannotImport: the record refuses a value.
    """
    try:
        return kind.model_validate_json(json.dumps(fields))  # a list of JSON may become a tuple
    except ValidationError as error:
        reasons = validation_messages(error, kind)[:MAX_REASONS]
        raise folder.refusal(*reasons, remedy="Name another folder, or give another option") from error


def fill(network: nn.Module, state: Mapping[str, Tensor], folder: SourceFolder) -> None:
    """Give a network without memory the tensors of a source, for inference.

    Raises:
        CannotImport: tensors are missing, unexpected, of another shape or type, or not finite; a few are named.
    """
    if reasons := list(islice(differences(state, network.state_dict()), MAX_REASONS)):
        remedy = "The files are damaged, or of another network: copy them again, or name another folder"
        raise folder.refusal(*reasons, remedy=remedy)
    network.load_state_dict(state, assign=True)
    network.eval().requires_grad_(False)
