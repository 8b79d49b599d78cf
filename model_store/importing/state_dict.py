"""The weights of a program that trained its own network, as a version in the store."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from itertools import islice

from torch import Tensor

from ..card import Metric, Source
from ..errors import CannotImport
from ..families import ModelConfig
from ..store import Store
from ..version import ModelVersion
from ..weights import differences, empty
from .candidate import MAX_REASONS


def publish_state_dict(
    store: Store,
    name: str,
    config: ModelConfig,
    state: Mapping[str, Tensor],
    *,
    metrics: Sequence[Metric] = (),
    licence: str | None = None,
) -> ModelVersion:
    """Publish tensors as the next version of a model whose network `config` describes.

    The names are the ones in `VAE(config).state_dict()`. The tensors can be on any device, all of one floating type.

    Raises:
        CannotImport: tensors are missing, unexpected, of another shape or type, or not finite; a few are named.
        InvalidName: no model can have that name.
        OSError: the store cannot be written.
    """
    model = empty(config)
    if reasons := list(islice(differences(state, model.state_dict()), MAX_REASONS)):
        remedy = "Give the tensors the names and shapes of VAE(config).state_dict(), or change the config"
        raise CannotImport("the state dict", *reasons, remedy=remedy)
    model.load_state_dict(state, assign=True)
    read = datetime.now(UTC).replace(microsecond=0)
    source = Source(kind="state dict", place="a program", licence=licence, read=read)
    return store.publish(name, model, source=source, metrics=metrics)
