"""References: `mnist@1` names one version, `mnist` means the newest, `mnist@stable` the version that an alias names."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import NamedTuple

from .errors import InvalidAlias, InvalidName, ModelNotFound

NAME = re.compile(r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")
_NUMBER = re.compile(r"[1-9][0-9]{0,8}")
_ALIAS = re.compile(r"[a-z][A-Za-z0-9._-]{0,63}")


class ModelVersion(NamedTuple):
    """The name and number of a published version. Versions sort by name, then by number."""

    name: str
    number: int

    def __str__(self) -> str:
        return f"{self.name}@{self.number}"


def parse_reference(reference: str) -> tuple[str, int | str | None]:
    """The name and the number in `name@number`, or the name and the alias in `name@alias`; None for `name` alone.

    Raises:
        InvalidName: the reference has none of these forms.
    """
    name, separator, end = reference.partition("@")
    if not is_name(name) or (separator and not is_number(end) and not is_alias(end)):
        raise InvalidName(reference)
    if not separator:
        return name, None
    return name, int(end) if is_number(end) else end


def newest(reference: str, versions: Iterable[ModelVersion]) -> ModelVersion:
    """The version that `name@number` names, or the newest version of the model `name`. Aliases are not known here.

    Raises:
        InvalidName: the reference has neither form.
        ModelNotFound: the version is not among `versions`.
    """
    name, number = parse_reference(reference)
    versions = sorted(versions)
    wanted = [version for version in versions if version.name == name and number in (None, version.number)]
    if not wanted:
        raise ModelNotFound(reference, versions)
    return wanted[-1]


def check_name(name: str) -> str:
    """Return the name, if a model can have it.

    Raises:
        InvalidName: no model can have it.
    """
    if not is_name(name):
        raise InvalidName(name)
    return name


def check_alias(alias: str) -> str:
    """Return the alias, if a version can have it.

    Raises:
        InvalidAlias: no version can have it.
    """
    if not is_alias(alias):
        raise InvalidAlias(alias)
    return alias


def is_name(text: str) -> bool:
    """Whether a model can have that name. A path is never a name."""
    return NAME.fullmatch(text) is not None


def is_number(text: str) -> bool:
    """Whether the text is a version's number, written without leading zeros."""
    return _NUMBER.fullmatch(text) is not None


def is_alias(text: str) -> bool:
    """Whether a version can have that alias. A number is never an alias."""
    return _ALIAS.fullmatch(text) is not None
