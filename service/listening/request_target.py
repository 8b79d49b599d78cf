"""The target of a request line: a path with its query, a whole address, or `*` (RFC 9112, section 3.2)."""

from __future__ import annotations

import re

import httptools

from ..errors import BadRequest

_ABSOLUTE = re.compile(rb"https?://([^/?]*)(.*)", re.IGNORECASE)


def origin_form(method: bytes, target: bytes) -> tuple[bytes, bytes | None]:
    """The path with its query; and the host with its port, if the target is a whole address.

    Raises:
        BadRequest: the target has no valid form, it names a user, or the method is CONNECT.
        httptools.HttpParserInvalidURLError: the host or its port is not valid.
    """
    if target.startswith(b"/") or (method, target) == (b"OPTIONS", b"*"):
        return target, None
    if method == b"CONNECT":
        raise BadRequest("its method is CONNECT, and this service is not a proxy")
    absolute = _ABSOLUTE.fullmatch(target)
    if not absolute:
        raise BadRequest(
            "its address is not a path, such as /v1/models, and does not begin with http:// or https:// either"
        )
    host, path = absolute.groups()
    if not host:
        raise BadRequest("its address names no host; write one after the //, as in http://localhost/v1/models")
    if b"@" in host:  # RFC 9110, section 4.2.4: the user's name is often there to hide the real host
        raise BadRequest("its address names a user; leave out the part before the @")
    httptools.parse_url(target)
    return path if path.startswith(b"/") else b"/" + path, host
