"""Bodies in JSON: what each may hold, and how text becomes pictures or numbers.

This module does not import torch: a large body is read in a process.
"""

from __future__ import annotations

import base64
import binascii
from codecs import BOM_UTF8
from itertools import chain, groupby
from typing import Annotated, Any, NamedTuple, Self, TypeVar
from urllib.parse import unquote

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError, ValidationInfo, model_validator

from model_store.vae.record import validation_messages
from model_store.vae.sentences import unknown

from ...errors import BadImage, BadValue, MalformedBody, TooLarge, about_row

JSON = "application/json"

Nested = Annotated[list[Any], Field(description="nested to the model's latent shape, one per image")]

SpaceName = Annotated[str, Field(max_length=64, description="the space of the latents, such as flux1")]

ANSWER_MEMBERS: set[str] = set()
"""The members that the JSON of any operation has. Bodies ignore them, so that an answer can be sent back."""

_WHITESPACE = b" \t\r\n"
_STANDARD_BASE64 = bytes.maketrans(b"-_", b"+/")
JSON_VALUE_BYTES = 192  # to parse a number, list or text, at the peak: lists of one number take the most
_MAX_MEMBERS = 100  # beside two colons for each image, as in an object with a data: URI; each takes 500 bytes
_MAX_DEPTH = 8  # lists within lists; NumPy takes 64
_FEW_VALUES = 65_536  # parsed for any model, so that the client learns of every mistake


def _describe_ignored(schema: dict[str, Any]) -> None:
    schema["patternProperties"] = {f"^({'|'.join(sorted(ANSWER_MEMBERS))})$": {}}
    schema["additionalProperties"] = False


class Allowed(NamedTuple):
    """How much a body may hold.

    Attributes:
        images: the number of pictures.
        values: the values of JSON: numbers, texts and lists.
        ignored: the members of JSON that a body need not have, and may.
        has_any_size: whether latents may have several shapes.
    """

    images: int
    values: int
    ignored: frozenset[str]
    has_any_size: bool = False


class JsonBody(BaseModel):
    """A body in JSON. An answer can be sent as a body: members of answers that a body does not need are ignored.

    Any other unknown member is an error, so that a misspelt name is noticed.
    """

    model_config = ConfigDict(
        frozen=True, extra="allow", strict=True, allow_inf_nan=False, json_schema_extra=_describe_ignored
    )

    @model_validator(mode="after")
    def _only_known_members(self, info: ValidationInfo) -> Self:
        ignored: frozenset[str] = info.context or frozenset()
        if name := next((name for name in self.model_extra or () if name not in ignored), None):
            raise ValueError(f"{name[:80]} {unknown(name, type(self).model_fields)}")
        return self


class ImagesBody(JsonBody):
    """Pictures in JSON."""

    images: Annotated[
        list[str], Field(min_length=1, fail_fast=True, description="base64 or data: URI of a PNG, JPEG or WebP")
    ]


class LatentsBody(JsonBody):
    """Latents in JSON, and what they say of themselves."""

    latents: Annotated[Nested, Field(min_length=1)]
    latent_space: SpaceName | None = None
    scaled: bool | None = None


class PairBody(JsonBody):
    """Two pictures, or two latents, in JSON; of a sample's answer, which has both, the latents are taken."""

    images: Annotated[list[str], Field(fail_fast=True, description="base64 or data: URIs")] | None = None
    latents: Annotated[Nested, Field(min_length=1)] | None = None
    latent_space: SpaceName | None = None
    scaled: bool | None = None

    @model_validator(mode="after")
    def _has_images_or_latents(self) -> Self:
        if self.images is None and self.latents is None:
            raise ValueError("it has neither images nor latents; send two of one of them")
        return self


Body = TypeVar("Body", bound=JsonBody)


def read_json(kind: type[Body], body: bytes, allowed: Allowed) -> Body:
    """The body that the JSON holds.

    Raises:
        MalformedBody: it is not JSON.
        BadValue: a member is missing, unknown, or has a wrong value.
        TooLarge: it holds more values than the limit, and more than a few, or more members.
    """
    # Checked before the JSON is parsed: three bytes of it, `[],`, become 64 bytes of memory. Each value but the first
    # follows a comma, or an opening bracket that has a closing one.
    limit = max(allowed.values, _FEW_VALUES)
    if len(body) > limit and (count := sum(map(body.count, b",]}"))) > limit:
        raise TooLarge("The body", size=count, limit=limit, unit="values")
    if (colons := body.count(b":")) > (limit := _MAX_MEMBERS + 2 * allowed.images):
        raise TooLarge("The body", size=colons, limit=limit, unit="members")
    try:
        return kind.model_validate_json(body.removeprefix(BOM_UTF8), context=allowed.ignored)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        if first["type"] == "json_invalid":
            raise MalformedBody(JSON, "it is not JSON, is cut off, or is nested too deeply") from error
        wrong = BadValue(f"The body cannot be used: {validation_messages(error, kind)[0]}.")
        wrong.index = next((place for place in first["loc"] if isinstance(place, int)), None)
        raise wrong from error


# The arrays of latents float32 (B, …), for each run of the same shape; the name of their space; and whether they are
# scaled. Plain values: a process may send back no class of ours.
ReadLatents = tuple[list[NDArray[np.float32]], str | None, bool | None]


def read_json_latents(body: bytes, allowed: Allowed) -> ReadLatents:
    """The latents of JSON, at least one.

    Raises:
        the same as `read_json` and `read_numbers`.
    """
    read = read_json(LatentsBody, body, allowed)
    runs = _read_runs(read.latents, allowed)
    if not all(run.size for run in runs):
        raise BadValue("The latents are empty; send at least one.")
    return runs, read.latent_space, read.scaled


def read_json_pair_latents(body: bytes, allowed: Allowed) -> ReadLatents | None:
    """The latents of JSON, or None where it holds only images.

    Raises:
        the same as `read_json` and `read_numbers`.
    """
    pair = read_json(PairBody, body, allowed)
    if pair.latents is None:
        return None
    return _read_runs(pair.latents, allowed), pair.latent_space, pair.scaled


def _read_runs(latents: list[Any], allowed: Allowed) -> list[NDArray[np.float32]]:
    if not allowed.has_any_size:
        return [read_numbers(latents)]
    rows = []
    for index, row in enumerate(latents):
        with about_row(index):
            rows.append(read_numbers([row]))
    return [np.concatenate([*run]) for _, run in groupby(rows, key=np.shape)]


def read_base64(texts: list[str], max_images: int) -> list[bytes]:
    """The pictures in base64.

    Raises:
        TooLarge: there are more than `max_images`.
        BadImage: one of them is not base64.
    """
    if len(texts) > max_images:
        raise TooLarge("The body", size=len(texts), limit=max_images, unit="images")
    pictures = []
    for index, text in enumerate(texts):
        with about_row(index):
            pictures.append(decode_base64(text, f"Picture {index + 1}"))
    return pictures


def decode_base64(text: str, name: str) -> bytes:
    """The bytes of base64 or of a data: URI: in either alphabet, on one or more lines, with or without padding.

    Raises:
        BadImage: the text is an address, or not base64; the message gives the picture's name.
    """
    if text.startswith(("http:", "https:", "file:", "ftp:")):
        raise BadImage(name, "addresses are not fetched; send the picture itself, as base64")
    if text[:5].lower() == "data:":
        text = unquote(text.partition(",")[2])
    try:
        digits = text.encode("ascii").translate(_STANDARD_BASE64, _WHITESPACE).rstrip(b"=")
        return base64.b64decode(digits + b"=" * (-len(digits) % 4), validate=True)
    except (binascii.Error, ValueError) as error:
        raise BadImage(name, "it is not base64; send base64, or a data: URI that holds base64") from error


def read_numbers(nested: list[Any]) -> NDArray[np.float32]:
    """An array of evenly nested numbers; the ones that float32 cannot hold are infinite.

    `np.array(nested)` would be shorter, but it turns texts into an array in which each is as wide as the longest.

    Raises:
        BadValue: the lists have different lengths, or hold values that are not numbers, or numbers that are too large.
    """
    shape, level = [len(nested)], nested
    while level and isinstance(level[0], list):
        lengths = {len(inner) if isinstance(inner, list) else None for inner in level}
        if len(lengths) > 1:
            raise BadValue("The latents are nested unevenly; each needs the model's latent shape.")
        shape.append(len(level[0]))
        level = list(chain.from_iterable(level))
    if len(shape) > _MAX_DEPTH:
        raise BadValue(f"The latents are nested in {len(shape)} lists; each needs the model's latent shape.")
    if not all(type(number) in (int, float) for number in level):
        raise BadValue("The latents hold a value that is not a number; send numbers only.")
    try:
        with np.errstate(over="ignore"):
            return np.array(level, np.float64).astype(np.float32).reshape(shape)
    except OverflowError as error:
        raise BadValue("The latents hold a number that is too large; send numbers that float32 can hold.") from error
