"""The errors of a store and of the models in it.

StoreError
├── StoreNotFound       the folder of the store does not exist
├── InvalidName         a name that no model can have
├── InvalidAlias        an alias that no version can have
├── ModelNotFound       the store does not have that model or version
├── AliasNotFound       the model does not have that alias
├── NoEarlierVersion    an alias cannot go back: no other version that it named is in the store
├── TooManyAliases      the model has as many aliases as it can have
├── UnusableAliases     the file with the aliases of a model holds something else
├── UnusableCalibration a calibration of a version cannot be read, or belongs to other weights
├── TooManyCalibrations a version has as many calibrations as it can have
├── CannotDelete        a version is not deleted, since an alias or the default model names it
├── NoDefault           no default model was chosen, and the store does not have exactly one model
├── UnusableDefault     the file for the default model does not name a model
├── CannotChooseDefault a model cannot become the default one
├── VersionExists       another file or folder has the path of the new version
├── NoNumberLeft        the largest number that a version can have is taken
├── UnusableNumber      the file that remembers the last number of a model holds something else
├── OtherFamily         a model that has no prior or likelihood, where one is needed
├── UnknownFormat       a card that cannot be read, or that this release does not know
├── CorruptWeights      weights that cannot be read, or that do not fit the card
├── CannotImport        the autoencoder of another program cannot be read from a file or folder
├── CannotBuild         the library of a network does not build it
└── MissingExtra        a library that only some models or commands need is not installed
"""

from collections.abc import Iterable
from pathlib import Path


class StoreError(Exception):
    """Base of all errors of the store."""


class StoreNotFound(StoreError):
    """The folder of the store does not exist."""

    def __init__(self, root: Path) -> None:
        super().__init__(f"No store at {root}: there is no such folder. Name another with --store or LATENTD_STORE.")


class InvalidName(StoreError, ValueError):
    """A name that no model can have."""

    def __init__(self, name: str) -> None:
        super().__init__(
            f"{name[:80]!r} is not the name of a model. A name has 1 to 64 letters, digits, '-', '_' and '.', "
            "and begins with a letter or digit; for a version add '@' and its number or alias, as in mnist@1."
        )


class InvalidAlias(StoreError, ValueError):
    """An alias that no version can have."""

    def __init__(self, alias: str) -> None:
        super().__init__(
            f"{alias[:80]!r} is not an alias. An alias has 1 to 64 letters, digits, '-', '_' and '.', and begins with "
            "a lower-case letter, as in stable; with its model it is written mnist@stable."
        )


class ModelNotFound(StoreError):
    """The store does not have that model, or not that version of it."""

    def __init__(self, reference: str, available: Iterable[object], *reasons: str) -> None:
        there = ", ".join(str(version) for version in available) or "nothing"
        super().__init__(". ".join([f"No model {reference}; there is {there}", *reasons]) + ".")


class AliasNotFound(StoreError):
    """The model does not have that alias."""

    def __init__(self, name: str, alias: str, available: Iterable[str]) -> None:
        there = f"the aliases {', '.join(available)}" if available else "no aliases"
        super().__init__(
            f"{name} has no alias {alias}; it has {there}. "
            f"Make one: python -m model_store alias {name}@VERSION {alias}."
        )


class NoEarlierVersion(StoreError):
    """An alias cannot go back: no other version that it named is in the store."""

    def __init__(self, name: str, alias: str) -> None:
        super().__init__(
            f"{name}@{alias} cannot go back: it has named no other version that is still in the store. Name one: "
            f"python -m model_store alias {name}@VERSION {alias}."
        )


class TooManyAliases(StoreError):
    """The model has as many aliases as it can have."""

    def __init__(self, name: str, limit: int) -> None:
        super().__init__(
            f"{name} has {limit} aliases, and cannot have more. Remove one: python -m model_store alias --remove "
            f"{name}@ALIAS."
        )


class UnusableAliases(StoreError):
    """The file with the aliases of a model holds something else."""

    def __init__(self, path: Path, reason: str) -> None:
        super().__init__(
            f"The file {path} must hold the aliases of a model, but {reason}. Delete it, and make them again: "
            "python -m model_store alias NAME@VERSION ALIAS."
        )


class UnusableCalibration(StoreError):
    """A calibration of a version cannot be read, or belongs to other weights."""

    def __init__(self, path: Path, reason: str) -> None:
        super().__init__(
            f"The file {path} must hold a calibration, but {reason}. Delete it, and make it again: "
            "python -m training.calibrate MODEL --data PATH --name NAME."
        )


class TooManyCalibrations(StoreError):
    """A version has as many calibrations as it can have."""

    def __init__(self, version: object, limit: int, folder: Path) -> None:
        super().__init__(f"{version} has {limit} calibrations, and cannot have more. Delete one from {folder}.")


class CannotDelete(StoreError):
    """A version is not deleted."""

    def __init__(self, reference: str, reason: str, remedy: str) -> None:
        super().__init__(f"{reference} is not deleted: {reason}. {remedy}.")


class NoDefault(StoreError):
    """No default model was chosen, and the store does not have exactly one model."""

    def __init__(self, names: Iterable[str]) -> None:
        there = ", ".join(sorted(names)) or "no models"
        super().__init__(
            f"There is no default model; the store has {there}. Name a model in the request, as in "
            "/v1/models/NAME/sample, or choose a default: python -m model_store default NAME, or LATENTD_DEFAULT_MODEL."
        )


class UnusableDefault(StoreError):
    """The file for the default model does not name a model."""

    def __init__(self, path: Path, reason: str) -> None:
        super().__init__(
            f"The file {path} must name the default model, but {reason}. Write it again: python -m model_store "
            "default NAME; or delete it."
        )


class CannotChooseDefault(StoreError):
    """A model cannot become the default one."""

    def __init__(self, reference: str, reason: str) -> None:
        super().__init__(f"Cannot make {reference} the default model: {reason}.")


class VersionExists(StoreError):
    """Another file or folder has the path of the new version."""

    def __init__(self, version: object) -> None:
        super().__init__(f"Cannot publish {version}: something is in its place already. Move it away and try again.")


class NoNumberLeft(StoreError):
    """The largest number that a version can have is taken."""

    def __init__(self, name: str, number: int, taken_by: Path) -> None:
        super().__init__(
            f"Cannot publish {name}: {number} is the largest number that a version can have, and {taken_by} has it. "
            "If it is a folder, rename it to a smaller number; if it is a file, write a smaller number into it."
        )


class UnusableNumber(StoreError):
    """The file that remembers the last number of a model holds something else."""

    def __init__(self, path: Path, reason: str) -> None:
        super().__init__(
            f"The file {path} must hold the highest number that a version of the model was ever given, but {reason}. "
            "Write that number into it; or delete it, if no version of the model was ever removed."
        )


class OtherFamily(StoreError):
    """A model of another family than `vae`, where a prior or a likelihood is needed."""

    def __init__(self, version: object, family: str) -> None:
        super().__init__(
            f"{version} is of the family {family}, whose models have no prior and no likelihood to measure; "
            "name a model of the family vae."
        )


class UnknownFormat(StoreError):
    """A card that cannot be read, or that this release does not know."""

    def __init__(self, path: Path, reason: str) -> None:
        super().__init__(f"Cannot read the card {path}: {reason}.")


class CorruptWeights(StoreError):
    """Weights that cannot be read, or that do not fit the card."""

    def __init__(self, path: Path, *reasons: str) -> None:
        super().__init__(f"Cannot use the weights {path}: {'; '.join(reasons)}.")


class CannotImport(StoreError):
    """The autoencoder of another program cannot be read from a file or folder."""

    def __init__(self, source: object, *reasons: str, remedy: str) -> None:
        super().__init__(f"Cannot import {source}: {'; '.join(reasons)}. {remedy}.")


class CannotBuild(StoreError):
    """The library of a network does not build it, for instance since a card was written by hand."""

    def __init__(self, name: str, reason: str) -> None:
        super().__init__(f"Cannot build {name}: {reason[:300]}. Import the model again from its source.")


class MissingExtra(StoreError):
    """A library that only some models or commands need is not installed."""

    def __init__(self, need: str, library: str, extra: str) -> None:
        super().__init__(f"{need} needs the library {library}, which is missing: pip install 'latentd[{extra}]'.")
