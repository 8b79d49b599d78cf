"""Caching of seeded samples: the same request always gives the same bytes, so that caches may keep them."""

from __future__ import annotations

import hashlib

from starlette.responses import Response

from ...http.call import Call
from ...operations.session import Session

_A_YEAR_S = 31_536_000


def etag(session: Session, *request: object) -> str:
    """A name for the bytes that the model answers to a seeded request, known before they are computed.

    Where the last bits may differ from one time to the next, as on a GPU, the name is weak (RFC 9110, section 8.8.1).
    """
    model = session.model
    computed_by = (str(model.version), model.card.weights.sha256, model.runner.fingerprint)
    name = f'"{hashlib.sha256(repr((*computed_by, *request)).encode()).hexdigest()[:32]}"'
    return name if model.runner.is_exact else f"W/{name}"


def is_held(call: Call, tag: str) -> bool:
    """Whether the client holds these bytes already."""
    held = call.headers.get("if-none-match", "")
    return held == "*" or _opaque(tag) in map(_opaque, held.split(","))


def add_headers(response: Response, call: Call, tag: str | None) -> Response:
    """Add the headers that tell caches how long they may keep a response.

    Without a tag the next response differs, so no cache may keep this response. With a tag and a pinned version the
    response never changes. With a tag alone a cache must ask again, since a newer version may be published.
    """
    if tag is None:
        response.headers["Cache-Control"] = "no-store"
        return response
    response.headers["ETag"] = tag
    # a request with a key has this header, and what a key opens is not for other clients of the cache
    scope = "private" if "authorization" in call.headers else "public"
    lifetime = f"max-age={_A_YEAR_S}, immutable" if "@" in call.path.get("model", "") else "no-cache"
    response.headers["Cache-Control"] = f"{scope}, {lifetime}"
    return response


def _opaque(tag: str) -> str:
    """The part of a tag that is compared, weak or not."""
    return tag.strip().removeprefix("W/")
