"""What can be wrong with a stored model.

StoreError
├── StoreNotFound       the folder of the store is not there
├── InvalidName         a name that no model may have
├── ModelNotFound       no such model, or not in that version
├── NoDefault           several models, and none of them is the default
├── UnusableDefault     the file that names the default model does not name a model
├── VersionExists       versions are immutable, and something is in the place of this one
├── UnknownFormat       a card that this release cannot know
└── CorruptWeights      tensors that are not what the card says
"""

from collections.abc import Iterable
from pathlib import Path


class StoreError(Exception):
    """Something is wrong with the store or with a model in it."""


class StoreNotFound(StoreError):
    """The folder of the store is not there."""

    def __init__(self, root: Path) -> None:
        super().__init__(f"No store at {root}: there is no such folder. Name another with --store or LATENTD_STORE.")


class InvalidName(StoreError, ValueError):
    """A name that no model may have."""

    def __init__(self, name: str) -> None:
        super().__init__(
            f"{name[:80]!r} is no model's name: it takes 1 to 64 letters, digits, '-', '_' and '.', "
            "beginning with a letter or digit, and for a version '@' and its number, as in mnist@1."
        )


class ModelNotFound(StoreError):
    """No such model, or not in that version."""

    def __init__(self, reference: str, available: Iterable[object], *reasons: str) -> None:
        there = ", ".join(str(version) for version in available) or "nothing"
        super().__init__(". ".join([f"No model {reference}; there is {there}", *reasons]) + ".")


class NoDefault(StoreError):
    """The store has several models, or none, and nothing says which one is the default."""

    def __init__(self, names: Iterable[str]) -> None:
        there = ", ".join(sorted(names)) or "no models"
        super().__init__(
            f"There is no default model; the store has {there}. Name a model in the request, as in "
            "/v1/models/NAME/sample, or choose a default: python -m model_store default NAME, or LATENTD_DEFAULT_MODEL."
        )


class UnusableDefault(StoreError):
    """The file that names the default model does not name a model."""

    def __init__(self, path: Path, reason: str) -> None:
        super().__init__(
            f"The file {path} must name the default model, but {reason}. Write it again: python -m model_store "
            "default NAME; or delete it."
        )


class VersionExists(StoreError):
    """Versions are immutable, and something is in the place of this one."""

    def __init__(self, version: object) -> None:
        super().__init__(f"Cannot publish {version}: something is in its place already; move it away and try again.")


class UnknownFormat(StoreError):
    """A card that this release cannot know."""

    def __init__(self, path: Path, reason: str) -> None:
        super().__init__(f"Cannot read the card {path}: {reason}.")


class CorruptWeights(StoreError):
    """Tensors that are not what the card says."""

    def __init__(self, path: Path, *reasons: str) -> None:
        super().__init__(f"Cannot use the weights {path}: {'; '.join(reasons)}.")
