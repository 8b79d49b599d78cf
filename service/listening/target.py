"""The target of a request line: a path with its query, a whole address, or `*` (RFC 9112, section 3.2)."""

from __future__ import annotations

import re

import httptools

from ..errors import BadRequest

_ABSOLUTE = re.compile(rb"https?://([^/?]+)(.*)", re.IGNORECASE)


def origin_form(method: bytes, target: bytes) -> tuple[bytes, bytes | None]:
    """The path with its query, and the host that a whole address names, with its port.

    Raises:
        BadRequest: the target is none of the three, it names a user, or it is of a CONNECT.
        httptools.HttpParserInvalidURLError: the host or its port is not valid.
    """
    if target.startswith(b"/") or (method, target) == (b"OPTIONS", b"*"):
        return target, None
    if method == b"CONNECT":
        raise BadRequest("it is a CONNECT, and this is not a proxy")
    absolute = _ABSOLUTE.fullmatch(target)
    if not absolute:
        raise BadRequest("its address is neither a path, as in GET /v1/models, nor begins with http:// or https://")
    host, path = absolute.groups()
    if b"@" in host:  # RFC 9110, section 4.2.4: it is likely to hide whom the address means
        raise BadRequest("its address names a user; leave out what stands before the @")
    httptools.parse_url(target)
    return path if path.startswith(b"/") else b"/" + path, host
