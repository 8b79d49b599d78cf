"""What may be kept of a sample: all of it, if the same request always gives the same bytes."""

from __future__ import annotations

import hashlib

from starlette.requests import Request
from starlette.responses import Response

from .inference.devices import Device
from .inference.registry import ServedModel
from .negotiation import Format
from .schemas import SampleParameters

_A_YEAR_S = 31_536_000


def etag(model: ServedModel, device: Device, parameters: SampleParameters, answer_format: Format) -> str | None:
    """A name for the bytes of a seeded sample, known before they are; None without a seed."""
    if parameters.seed is None:
        return None
    model_key = (model.card.weights.sha256, str(device), str(device.dtype))
    key = (*model_key, parameters.n, parameters.seed, parameters.temperature, answer_format)
    return f'"{hashlib.sha256(repr(key).encode()).hexdigest()[:32]}"'


def is_fresh(request: Request, tag: str | None) -> bool:
    """Whether the caller holds these bytes already."""
    held = request.headers.get("if-none-match", "")
    return tag is not None and (held == "*" or tag in (part.strip().removeprefix("W/") for part in held.split(",")))


def mark(response: Response, tag: str | None, *, is_pinned: bool, is_private: bool) -> Response:
    """The response, with what a cache must know: a seed makes it repeatable, a pinned version for ever."""
    if tag is None:
        response.headers["Cache-Control"] = "no-store"
        return response
    response.headers["ETag"] = tag
    lifetime = f"max-age={_A_YEAR_S}, immutable" if is_pinned else "no-cache"
    response.headers["Cache-Control"] = f"{'private' if is_private else 'public'}, {lifetime}"
    return response
