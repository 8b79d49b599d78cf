"""Caching of samples: one may be kept where the same request always gives the same bytes."""

from __future__ import annotations

import hashlib

from starlette.responses import Response

from ...http.negotiation import Format
from .call import Call
from .schemas import SampleParameters

_A_YEAR_S = 31_536_000


def etag(call: Call, parameters: SampleParameters, wanted: Format) -> str | None:
    """A name for the bytes of a seeded sample, known before they are; None without a seed.

    Where the last bits may differ from one time to the next, as on a GPU, the name is a weak one.
    """
    if parameters.seed is None:
        return None
    computed_by = (
        str(call.model.version),
        call.model.card.weights.sha256,
        call.sessions.registry.device.fingerprint,
    )
    key = (*computed_by, parameters.n, parameters.seed, parameters.temperature, wanted)
    name = f'"{hashlib.sha256(repr(key).encode()).hexdigest()[:32]}"'
    return name if call.model.runner.is_exact else f"W/{name}"


def is_fresh(call: Call, tag: str | None) -> bool:
    """Whether the caller holds these bytes already."""
    held = call.headers.get("if-none-match", "")
    return tag is not None and (held == "*" or _name(tag) in map(_name, held.split(",")))


def _name(tag: str) -> str:
    """The part of a tag that is compared, weak or not."""
    return tag.strip().removeprefix("W/")


def mark(response: Response, call: Call, tag: str | None) -> Response:
    """The response, with what a cache must know: a seed makes it repeatable, a pinned version for ever."""
    if tag is None:
        response.headers["Cache-Control"] = "no-store"
        return response
    response.headers["ETag"] = tag
    keepers = "private" if "authorization" in call.headers else "public"  # keys are sent in this header
    lifetime = f"max-age={_A_YEAR_S}, immutable" if "@" in call.path.get("model", "") else "no-cache"
    response.headers["Cache-Control"] = f"{keepers}, {lifetime}"
    return response
