"""What may be kept of a sample: all of it, if the same request always gives the same bytes."""

from __future__ import annotations

import hashlib

from starlette.responses import Response

from .call import Call
from .negotiation import Format
from .schemas import SampleParameters

_A_YEAR_S = 31_536_000


def etag(call: Call, parameters: SampleParameters, wanted: Format) -> str | None:
    """A name for the bytes of a seeded sample, known before they are; None without a seed."""
    if parameters.seed is None:
        return None
    device = call.engine.registry.device
    computed_by = (
        str(call.model.version),
        call.model.card.weights.sha256,
        str(device),
        str(device.dtype),
        device.runtime,
    )
    key = (*computed_by, parameters.n, parameters.seed, parameters.temperature, wanted)
    return f'"{hashlib.sha256(repr(key).encode()).hexdigest()[:32]}"'


def is_fresh(call: Call, tag: str | None) -> bool:
    """Whether the caller holds these bytes already."""
    held = call.headers.get("if-none-match", "")
    return tag is not None and (held == "*" or tag in (part.strip().removeprefix("W/") for part in held.split(",")))


def mark(response: Response, call: Call, tag: str | None) -> Response:
    """The response, with what a cache must know: a seed makes it repeatable, a pinned version for ever."""
    if tag is None:
        response.headers["Cache-Control"] = "no-store"
        return response
    response.headers["ETag"] = tag
    keepers = "private" if call.settings.api_keys else "public"
    lifetime = f"max-age={_A_YEAR_S}, immutable" if call.is_pinned else "no-cache"
    response.headers["Cache-Control"] = f"{keepers}, {lifetime}"
    return response
