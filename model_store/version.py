"""ModelVersion: which model is meant. `mnist@1` names one version; `mnist` alone means the newest."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import NamedTuple

from .errors import InvalidName, ModelNotFound

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_NUMBER = re.compile(r"[1-9][0-9]{0,8}")


class ModelVersion(NamedTuple):
    """A published version; they sort by name, then by number."""

    name: str
    number: int

    def __str__(self) -> str:
        return f"{self.name}@{self.number}"


def parse_reference(reference: str) -> tuple[str, int | None]:
    """Name and version of `name@version`; the version is None in a bare `name`.

    Raises:
        InvalidName: neither of both.
    """
    name, separator, number = reference.partition("@")
    if not is_name(name) or (separator and not is_number(number)):
        raise InvalidName(reference)
    return name, int(number) if separator else None


def newest(reference: str, versions: Iterable[ModelVersion]) -> ModelVersion:
    """The version that `name@version` stands for, or the newest one that `name` stands for.

    Raises:
        InvalidName: the reference is neither.
        ModelNotFound: none of the versions is meant.
    """
    name, number = parse_reference(reference)
    versions = sorted(versions)
    wanted = [version for version in versions if version.name == name and number in (None, version.number)]
    if not wanted:
        raise ModelNotFound(reference, versions)
    return wanted[-1]


def check_name(name: str) -> str:
    """The name, if a model may have it.

    Raises:
        InvalidName: it may not.
    """
    if not is_name(name):
        raise InvalidName(name)
    return name


def is_name(text: str) -> bool:
    """Whether a model may have that name; no name is a path."""
    return _NAME.fullmatch(text) is not None


def is_number(text: str) -> bool:
    """Whether that is how a version is written."""
    return _NUMBER.fullmatch(text) is not None
