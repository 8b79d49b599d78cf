"""Caching of seeded samples: the same request always gives the same bytes, so that caches may keep them."""

from __future__ import annotations

import hashlib
import zlib
from importlib.metadata import version

from starlette.responses import Response

from model_store.version import is_number

from ...http.call import Call
from ...http.conditions import holds
from ...operations.session import Session

_A_YEAR_S = 31_536_000
_WRITERS = (zlib.ZLIB_RUNTIME_VERSION, *(f"{name} {version(name)}" for name in ("numpy", "orjson", "pillow")))


def etag(session: Session, *request: object) -> str:
    """A name for the model's answer to a seeded request, known before the answer is computed.

    The name covers the weights and everything that decides the bytes: the processor, the kernels and threads, the
    versions of libraries. It is weak all the same (RFC 9110, section 8.8.1): no library promises the same last bit for
    a row in batches of other sizes. With MKL_CBWR=COMPATIBLE, one image in a hundred differed (November 2026).
    """
    model = session.model
    computed_by = (str(model.version), model.card.weights.sha256, model.runner.fingerprint, _WRITERS)
    return f'W/"{hashlib.sha256(repr((*computed_by, *request)).encode()).hexdigest()[:32]}"'


def is_held(call: Call, tag: str) -> bool:
    """Whether the client holds this answer already. Ask only where the answer would be 200."""
    return holds(call.headers.get("if-none-match", ""), tag)


def add_headers(response: Response, call: Call, tag: str | None) -> Response:
    """Add the headers that tell caches how long they may keep a response.

    Without a tag the next response differs, so no cache may keep this response. With a tag and a pinned version the
    response never changes. With a tag alone a cache must ask again, since a newer version may be published, or an alias
    may be moved.
    """
    if tag is None:
        response.headers["Cache-Control"] = "no-store"
        return response
    response.headers["ETag"] = tag
    # a request with a key has this header, and what a key opens is not for other clients of the cache
    scope = "private" if "authorization" in call.headers else "public"
    is_pinned = is_number(call.path.get("model", "").partition("@")[2])
    lifetime = f"max-age={_A_YEAR_S}, immutable" if is_pinned else "no-cache"
    response.headers["Cache-Control"] = f"{scope}, {lifetime}"
    return response
