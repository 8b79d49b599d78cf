"""The format of an answer: the one that `?format=` names, else the best that Accept allows (RFC 9110, 12.5.1)."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Literal

from ..errors import NotAcceptable
from ..formats.picture_structure import MEDIA_TYPES as PICTURES
from ..formats.tensors import NPY, SAFETENSORS

Format = Literal["json", "npy", "safetensors", "png", "jpeg", "webp"]

MEDIA_TYPES: dict[Format, str] = {
    "json": "application/json",
    "npy": NPY,
    "safetensors": SAFETENSORS,
    "png": PICTURES["png"],
    "jpeg": PICTURES["jpeg"],
    "webp": PICTURES["webp"],
}
SCORE_FORMATS: tuple[Format, ...] = ("json", "npy", "png", "jpeg", "webp")
LATENT_FORMATS: tuple[Format, ...] = ("json", "npy", "safetensors")
IMAGE_FORMATS: tuple[Format, ...] = ("png", "jpeg", "webp", "json", "npy", "safetensors")

_MAX_RANGES = 256  # of one request; browsers send ten, and each takes two microseconds of the event loop
_QUALITY = re.compile(r"(0|0?\.\d{1,6}|0\.|1(\.0{0,6})?)")
_QUOTED = re.compile(r'"(?:[^"\\]|\\.?)*"?')  # never fails at a quote, or thousands of quotes would be tried in vain


def choose_format(wanted: Format | None, accept: str | None, offered: Sequence[Format]) -> Format:
    """Choose one of the `offered` formats, of which the first is the default. `accept` is the Accept header.

    Raises:
        NotAcceptable: the client accepts none of them.
    """
    if wanted is not None:
        if wanted not in offered:
            raise NotAcceptable(offered)
        return wanted
    if not accept or accept == "*/*":
        return offered[0]
    parts = [part for part in split_outside_quotes(accept.lower(), ",") if part.strip()]
    if not parts:
        return offered[0]
    ranges: dict[str, float] = {}
    for media, its_quality in map(media_range, parts[:_MAX_RANGES]):
        ranges[media] = max(its_quality, ranges.get(media, 0.0))
    best = max(offered, key=lambda candidate: quality(MEDIA_TYPES[candidate], ranges))
    if quality(MEDIA_TYPES[best], ranges) == 0:
        raise NotAcceptable(MEDIA_TYPES[candidate] for candidate in offered)
    return best


def media_range(text: str) -> tuple[str, float]:
    """A media range such as `image/*`, and its quality: 1 by default, 0 if the text is not a quality."""
    media, *parameters = (part.strip() for part in split_outside_quotes(text, ";"))
    qualities = [value for key, _, value in (parameter.partition("=") for parameter in parameters) if key == "q"]
    if not qualities:
        return media, 1.0
    return media, float(qualities[0]) if _QUALITY.fullmatch(qualities[0]) else 0.0


def split_outside_quotes(text: str, separator: str) -> list[str]:
    """The parts of a text between separators; a separator inside quotes belongs to its part."""
    quoted = _QUOTED.sub(lambda match: "_" * len(match[0]), text)
    ends = [at for at, letter in enumerate(quoted) if letter == separator]
    return [text[begin:end] for begin, end in zip([0, *(at + 1 for at in ends)], [*ends, len(text)], strict=True)]


def quality(media_type: str, ranges: Mapping[str, float]) -> float:
    """The quality of a media type: that of the most specific range that matches it, or 0 if none does."""
    family = media_type.partition("/")[0] + "/*"
    return next((ranges[pattern] for pattern in (media_type, family, "*/*") if pattern in ranges), 0.0)
