"""A store as one JSON document for programs: its versions, the aliases that cannot be read, and misplaced folders.

A version whose card cannot be read has null in the place of its facts, and the reason as its `fault`.
"""

from __future__ import annotations

from contextlib import suppress
from typing import Any

from .aliases import Aliases
from .errors import StoreError
from .store import Store
from .version import ModelVersion


def describe(store: Store) -> dict[str, Any]:
    """The document, of plain values.

    Raises:
        StoreNotFound: the store does not exist.
        OSError: it cannot be read.
    """
    aliases, faults = store.aliases()
    default = None
    with suppress(StoreError):  # a list without a default is better than no list
        default = store.resolve(store.default())
    return {
        "versions": [
            {
                "name": version.name,
                "version": version.number,
                **_facts(store, version),
                "aliases": aliases.get(version.name, Aliases()).naming(version.number),
                "is_default": version == default,
            }
            for version in store.versions()
        ],
        "unusable_aliases": [{"name": name, "reason": str(fault)} for name, fault in faults.items()],
        "misplaced": [{"path": path, "reason": reason} for path, reason in store.misplaced().items()],
    }


def _facts(store: Store, version: ModelVersion) -> dict[str, Any]:
    """The facts of a version's card, and its fault."""
    names = ("created", "family", "image_shape", "latent_shape", "parameters", "bytes")
    try:
        card = store.card(version)
    except StoreError as error:
        return {**dict.fromkeys(names), "fault": str(error)}
    model, weights = card.model, card.weights
    facts = (
        card.created.isoformat(),
        model.family,
        list(model.image_shape),
        list(model.latent_shape),
        weights.parameters,
        weights.bytes,
    )
    return {**dict(zip(names, facts, strict=True)), "fault": None}
