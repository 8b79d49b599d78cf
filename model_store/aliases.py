"""Aliases: names such as `stable` for versions of one model, with the versions that each alias has named before.

This module reads and writes no files. A changed record is a new one: records are frozen.
"""

from __future__ import annotations

import json
from collections.abc import Container
from pathlib import Path
from typing import Annotated, Final, Literal

from pydantic import Field, ValidationError

from .errors import AliasNotFound, NoEarlierVersion, TooManyAliases, UnusableAliases
from .vae.record import Record
from .version import is_alias

FORMAT: Final = 1
MAX_EARLIER = 100
MAX_ALIASES = 500
MAX_ALIASES_BYTES = 2**20  # twice as much as the most and longest aliases with all their numbers

Number = Annotated[int, Field(ge=1, le=999_999_999)]
History = Annotated[tuple[Number, ...], Field(min_length=1, max_length=1 + MAX_EARLIER)]


class Aliases(Record):
    """The aliases of one model: for each the numbers of the versions that it has named, the present one last."""

    format: Literal[1] = FORMAT
    aliases: dict[str, History] = Field(default_factory=dict, max_length=MAX_ALIASES)

    def number_of(self, alias: str) -> int | None:
        """The number of the version that an alias names; None if the model does not have the alias."""
        return self.aliases[alias][-1] if alias in self.aliases else None

    def naming(self, number: int) -> list[str]:
        """The aliases that name a version, in order."""
        return sorted(alias for alias, history in self.aliases.items() if history[-1] == number)

    def history(self, name: str, alias: str) -> tuple[int, ...]:
        """The numbers that an alias of the model `name` has named, the present one last.

        Raises:
            AliasNotFound: the model does not have the alias.
        """
        if alias not in self.aliases:
            raise AliasNotFound(name, alias, sorted(self.aliases))
        return self.aliases[alias]

    def moved(self, name: str, alias: str, number: int) -> Aliases:
        """These aliases, with an alias of the model `name` that names another version, or is new.

        Raises:
            TooManyAliases: there is no room for a new one.
        """
        history = self.aliases.get(alias, ())
        if not history and len(self.aliases) >= MAX_ALIASES:
            raise TooManyAliases(name, MAX_ALIASES)
        if history[-1:] == (number,):
            return self
        return self._with(alias, (*history[-MAX_EARLIER:], number))

    def rolled_back(self, name: str, alias: str, there: Container[int]) -> Aliases:
        """These aliases, with an alias that names the version before. Versions that are not `there` are passed over.

        Raises:
            AliasNotFound: the model does not have the alias.
            NoEarlierVersion: no other version that it named is there.
        """
        history = self.history(name, alias)
        for place in range(len(history) - 1, 0, -1):
            number = history[place - 1]
            if number in there and number != history[-1]:
                return self._with(alias, history[:place])
        raise NoEarlierVersion(name, alias)

    def without(self, *removed: str) -> Aliases:
        """These aliases but the `removed` ones."""
        return Aliases(aliases={alias: history for alias, history in self.aliases.items() if alias not in removed})

    def to_json(self) -> str:
        """The content of the file."""
        return self.model_dump_json() + "\n"

    def _with(self, alias: str, history: tuple[int, ...]) -> Aliases:
        return Aliases(aliases={**self.aliases, alias: history})


def parse_aliases(path: Path, text: bytes) -> Aliases:
    """The aliases that a file's text describes; `path` names the file in errors, which repeat none of the text.

    Raises:
        UnusableAliases: the text is not JSON, is of another format, or has something else in the place of aliases.
    """
    try:
        fields = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise UnusableAliases(path, "it is not JSON") from error
    if not isinstance(fields, dict) or fields.get("format") != FORMAT:
        raise UnusableAliases(path, f"its format is not {FORMAT}, the only one that this release knows")
    try:
        found = Aliases.model_validate_json(text)
    except ValidationError as error:
        raise UnusableAliases(path, f"an alias has something else than 1 to {1 + MAX_EARLIER} numbers") from error
    if not all(map(is_alias, found.aliases)):
        raise UnusableAliases(path, "a name in it is not an alias")
    return found
