"""The OpenAPI of bodies and answers: each format that is read or written, under its media type."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from model_store.vae.noise import MAX_SEED

from ...formats.multipart import MULTIPART
from ...http.answer_headers import documented_headers
from ...http.negotiation import MEDIA_TYPES, Format
from ...http.problems import Responses, documented_errors
from .bodies import IMAGE_BODIES, LATENT_BODIES
from .json_bodies import JSON, ImagesBody, JsonBody, LatentsBody, PairBody
from .parameters import INT32_MAX

_ERRORS = documented_errors(401, 404, 406, 413, 414, 422, 429, 431, 500, 503, 504)
_BODY_ERRORS = documented_errors(400, 408, 415)
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
        "it means the default model, which `/v1/models` marks.",
    },
    {"name": "models", "description": "The models that are served."},
    {"name": "health", "description": "For orchestrators and monitors."},
]


def _body(media_types: Sequence[str], json_body: type[JsonBody]) -> dict[str, Any]:
    special = {JSON: json_body.model_json_schema(), MULTIPART: _PARTS}
    content = {media_type: {"schema": special.get(media_type, _BINARY)} for media_type in media_types}
    return {"requestBody": {"required": True, "content": content}}


def images_body() -> dict[str, Any]:
    """A body of images. It is described after every operation is known, since it lists the members of their answers."""
    return _body(IMAGE_BODIES, ImagesBody)


def pair_body() -> dict[str, Any]:
    """A body of two images or two latents."""
    return _body(IMAGE_BODIES, PairBody)


def latents_body() -> dict[str, Any]:
    """A body of latents."""
    return _body(LATENT_BODIES, LatentsBody)


def responses(formats: Sequence[Format], *, reads_body: bool = False, headers: Sequence[str] = ()) -> Responses:
    """The errors of an operation, and its 200 in these formats, with the headers of all operations and its own.

    FastAPI adds the schema of the JSON, from the endpoint's `answer_schema`.
    """
    binary = {MEDIA_TYPES[answer]: {"schema": _BINARY} for answer in formats if answer != "json"}
    seed = {
        "description": "the seed that gives this answer again",
        "schema": {"type": "integer", "minimum": 0, "maximum": MAX_SEED},
    }
    errors = _ERRORS | (_BODY_ERRORS if reads_body else {})
    return {200: {"content": binary, "headers": {**documented_headers(*headers), "X-Seed": seed}}} | errors


def describe_integers(schema: Any) -> None:
    """Give each integer in a schema the format that its bounds fit: generated clients in C# or Java hold 32 bits.

    The bounds become whole numbers: FastAPI makes them floats, and the float nearest to 2⁶³−1 is too large.
    """
    children = schema.values() if isinstance(schema, dict) else schema if isinstance(schema, list) else ()
    for child in children:
        describe_integers(child)
    if isinstance(schema, dict) and schema.get("type") == "integer":
        schema |= {bound: min(int(schema[bound]), MAX_SEED) for bound in ("minimum", "maximum") if bound in schema}
        schema["format"] = "int32" if schema.get("maximum", 0) <= INT32_MAX else "int64"
