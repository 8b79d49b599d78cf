"""ModelVersion: which model is meant. `mnist@1` names one version; `mnist` alone means the newest."""

from __future__ import annotations

import re
from typing import NamedTuple

from .errors import InvalidName

_NAME = r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}"
_REFERENCE = re.compile(rf"({_NAME})(?:@([1-9][0-9]{{0,8}}))?")


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
    match = _REFERENCE.fullmatch(reference)
    if match is None:
        raise InvalidName(reference)
    name, number = match.groups()
    return name, int(number) if number else None


def check_name(name: str) -> str:
    """The name, if a model may have it.

    Raises:
        InvalidName: it may not.
    """
    if re.fullmatch(_NAME, name) is None:
        raise InvalidName(name)
    return name
