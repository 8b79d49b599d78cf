"""The words that latents carry along: the name of their space, and whether they are scaled.

The same words stand in the header `X-Latent-Space: flux1;scaled` (or `;raw`), in JSON, and in the metadata of
safetensors. This module does not import torch: JSON is read in processes.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import NamedTuple

from ..errors import BadValue

HEADER = "X-Latent-Space"

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_WORDS = re.compile(rf"({_NAME.pattern})(?: ?; ?(scaled|raw))?")


class LatentSpace(NamedTuple):
    """The name of a space, and whether latents in it are scaled; None where latents do not say so."""

    name: str | None = None
    is_scaled: bool | None = None

    def __str__(self) -> str:
        """The text of the header."""
        return f"{self.name};{'scaled' if self.is_scaled else 'raw'}"

    @property
    def members(self) -> dict[str, str | bool | None]:
        """The members of JSON."""
        return {"latent_space": self.name, "scaled": bool(self.is_scaled)}

    @property
    def metadata(self) -> dict[str, str]:
        """The metadata of safetensors, which holds texts."""
        return {"latent_space": self.name or "", "scaled": "true" if self.is_scaled else "false"}

    def or_else(self, other: LatentSpace) -> LatentSpace:
        """These words, and the words of `other` where these say nothing.

        Raises:
            BadValue: they contradict each other.
        """
        for mine, theirs in zip(self, other, strict=True):
            if None not in (mine, theirs) and mine != theirs:
                raise BadValue(
                    f"The latents are {_word(mine)} by one part of the request and {_word(theirs)} by another: its "
                    f"body, the header {HEADER}, or the query; leave out one of the two."
                )
        return LatentSpace(
            other.name if self.name is None else self.name,
            other.is_scaled if self.is_scaled is None else self.is_scaled,
        )


def _word(value: str | bool | None) -> str:
    return value[:64] if isinstance(value, str) else "scaled" if value else "raw"


def of_header(text: str | None) -> LatentSpace:
    """The words of the header; None is a request without it.

    Raises:
        BadValue: the header has another form.
    """
    if text is None:
        return LatentSpace()
    if (words := _WORDS.fullmatch(text)) is None:
        raise BadValue(f"The header {HEADER} must be a name with ;raw or ;scaled behind it, as in flux1;scaled.")
    name, scaling = words.groups()
    return LatentSpace(name, None if scaling is None else scaling == "scaled")


def of_metadata(metadata: Mapping[str, str]) -> LatentSpace:
    """The words in the metadata of safetensors, in which `scaled` is true or false.

    Raises:
        BadValue: it is something else.
    """
    known = {"true": True, "false": False, "": None}
    if (scaled := metadata.get("scaled", "")) not in known:
        raise BadValue(f"The metadata says scaled={scaled[:40]}; it must be true or false.")
    return of_json(metadata.get("latent_space") or None, known[scaled])


def of_json(name: str | None, is_scaled: bool | None) -> LatentSpace:
    """The words in JSON.

    Raises:
        BadValue: no space has that name.
    """
    if name is not None and _NAME.fullmatch(name) is None:
        raise BadValue("The name of a latent space has 1 to 64 letters, digits, '-', '_' and '.', as in flux1.")
    return LatentSpace(name, is_scaled)
