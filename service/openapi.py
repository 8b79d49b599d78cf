"""What the OpenAPI says of bodies that are not JSON: each format that is read or answered, under its media type."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from . import error_responses
from .bodies import IMAGE_BODIES, JSON, LATENT_BODIES
from .multipart import MULTIPART
from .negotiation import MEDIA_TYPES, Format
from .schemas import ImagesBody, LatentsBody, PairBody, Problem

_BINARY = {"type": "string", "format": "binary"}
_PARTS = {
    "type": "object",
    "minProperties": 1,
    "additionalProperties": _BINARY,
    "description": "one picture a part, any field name, in order",
}

Responses = dict[int | str, dict[str, Any]]


def _body(media_types: Sequence[str], json_schema: dict[str, Any]) -> dict[str, Any]:
    special = {JSON: json_schema, MULTIPART: _PARTS}
    content = {media_type: {"schema": special.get(media_type, _BINARY)} for media_type in media_types}
    return {"requestBody": {"required": True, "content": content}}


IMAGES_BODY = _body(IMAGE_BODIES, ImagesBody.model_json_schema())
PAIR_BODY = _body(IMAGE_BODIES, PairBody.model_json_schema())
LATENTS_BODY = _body(LATENT_BODIES, LatentsBody.model_json_schema())


def answered_in(formats: Sequence[Format]) -> Responses:
    """The 200 of an operation that answers in these formats; FastAPI adds the JSON's schema from the response model."""
    binary = {MEDIA_TYPES[answer]: {"schema": _BINARY} for answer in formats if answer != "json"}
    headers = {
        "X-Model": {"description": "the version that answered", "schema": {"type": "string"}},
        "X-Seed": {"description": "gives a drawn answer again", "schema": {"type": "integer"}},
        "Server-Timing": {"description": "milliseconds per stage", "schema": {"type": "string"}},
    }
    return {200: {"content": binary, "headers": headers}}


def problems(*statuses: int) -> Responses:
    """The errors of an operation."""
    content = {error_responses.MEDIA_TYPE: {"schema": Problem.model_json_schema()}}
    return {status: {"description": "problem details", "content": content} for status in statuses}
