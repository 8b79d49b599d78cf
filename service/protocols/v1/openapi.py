"""What the OpenAPI says of bodies that are not JSON: each format that is read or answered, under its media type."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from model_store.vae.noise import MAX_SEED

from ...formats.multipart import MULTIPART
from ...http.negotiation import MEDIA_TYPES, Format
from ...http.problems import Responses
from .bodies import IMAGE_BODIES, JSON, LATENT_BODIES
from .schemas import INT32_MAX, ImagesBody, LatentsBody, PairBody

_BINARY = {"type": "string", "format": "binary"}
_PARTS = {
    "type": "object",
    "minProperties": 1,
    "additionalProperties": _BINARY,
    "description": "one picture a part, any field name, in order",
}

TAGS = [
    {
        "name": "operations",
        "description": "Each operation also has a shorter address without `/models/{model}`, such as `/v1/encode`: "
        "there the default model answers, which `/v1/models` marks.",
    },
    {"name": "models", "description": "The models that are served."},
    {"name": "health", "description": "For orchestrators and monitors."},
]


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
        "X-Seed": {
            "description": "gives a drawn answer again",
            "schema": {"type": "integer", "minimum": 0, "maximum": MAX_SEED},
        },
        "Server-Timing": {"description": "milliseconds per stage", "schema": {"type": "string"}},
    }
    return {200: {"content": binary, "headers": headers}}


def describe_integers(schema: Any) -> None:
    """Give each integer in a schema the format that its bounds fit: generated clients in C# or Java hold 32 bits.

    The bounds become whole numbers: FastAPI has made floats of them, of which the nearest to 2⁶³−1 is too large.
    """
    children = schema.values() if isinstance(schema, dict) else schema if isinstance(schema, list) else ()
    for child in children:
        describe_integers(child)
    if isinstance(schema, dict) and schema.get("type") == "integer":
        schema |= {bound: min(int(schema[bound]), MAX_SEED) for bound in ("minimum", "maximum") if bound in schema}
        schema["format"] = "int32" if schema.get("maximum", 0) <= INT32_MAX else "int64"
