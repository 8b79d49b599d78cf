"""Reverse proxies: the scheme, the host and the path under which clients reach the service.

A proxy may cut the prefix off a request's path or leave it there. The answer is the same.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware

from .client import address_name

PREFIX = re.compile(r"(/[A-Za-z0-9._~-]+)+")

_HOST = re.compile(rb"[A-Za-z0-9._:\[\]-]+")
_FOR = b"x-forwarded-for"
_NEAREST = 1024  # bytes of it, of the nearest proxies; to read 60 kB takes 1.5 ms
_IPV4_ON_IPV6 = "::ffff:"  # a socket that listens on :: writes this before an IPv4 address


class RootPath:
    """Pure ASGI that makes a request's path begin with the service's prefix, as ASGI demands."""

    def __init__(self, app: ASGIApp, root_path: str) -> None:
        self._app = app
        self._root_path = root_path

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on. The prefix alone is an address at which there is nothing."""
        if scope["type"] == "http":
            if scope["path"] == "*":  # OPTIONS * asks whether the server answers at all (RFC 9110, section 9.3.7)
                await Response(status_code=204)(scope, receive, send)
                return
            root_path = scope["root_path"] = scope.get("root_path") or self._root_path
            if not f"{scope['path']}/".startswith(f"{root_path}/"):
                scope["path"] = root_path + scope["path"]
        await self._app(scope, receive, send)


class Forwarded:
    """Pure ASGI that applies the X-Forwarded headers of trusted proxies, and ignores them from other clients.

    If X-Forwarded-Host or X-Forwarded-Prefix has several values, the last one counts: the nearest proxy wrote it.
    """

    def __init__(self, app: ASGIApp, proxies: Sequence[str]) -> None:
        self._app = ProxyHeadersMiddleware(app, list(proxies))  # type: ignore[arg-type]  # uvicorn has types of its own

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on as its client sent it. uvicorn's middleware applies the -Proto and -For headers."""
        if scope["type"] == "http" and scope.get("client"):
            host, port = scope["client"]
            scope["client"] = host.removeprefix(_IPV4_ON_IPV6), port
            if scope["client"][0] in self._app.trusted_hosts:
                _apply(scope)
        await self._app(scope, receive, send)  # type: ignore[arg-type]  # the same types


class ClientAddresses:
    """The addresses of clients, also of those behind trusted proxies, before `Forwarded` has seen their requests."""

    def __init__(self, proxies: Sequence[str]) -> None:
        self._trusted = ProxyHeadersMiddleware(_no_app, list(proxies)).trusted_hosts

    def __call__(self, scope: Scope) -> str:
        """The name of the address from which a request came to the first trusted proxy, or to the service."""
        host = scope["client"][0].removeprefix(_IPV4_ON_IPV6) if scope.get("client") else ""
        if host in self._trusted:
            by_all = b", ".join(value for name, value in scope["headers"] if name == _FOR)[-_NEAREST:]
            host = self._trusted.get_trusted_client_address(by_all.decode("latin-1"))[0] or host
        return address_name(host[:64])


async def _no_app(*_: object) -> None:
    raise AssertionError("Only the list of trusted hosts is used. This is a bug.")


def _apply(scope: Scope) -> None:
    """Apply X-Forwarded-Host and X-Forwarded-Prefix; ignore a value that cannot be a host or a prefix."""
    by_all = [value for name, value in scope["headers"] if name == _FOR]  # uvicorn reads one line of the list
    scope["headers"] = [header for header in scope["headers"] if header[0] != _FOR]
    if by_all:
        scope["headers"].append((_FOR, b", ".join(by_all)))
    given = {name: value.rpartition(b",")[2].strip() for name, value in scope["headers"]}
    if _HOST.fullmatch(host := given.get(b"x-forwarded-host", b"")):
        scope["headers"] = [header for header in scope["headers"] if header[0] != b"host"] + [(b"host", host)]
    prefix = given.get(b"x-forwarded-prefix", b"").decode("latin-1").rstrip("/")
    if PREFIX.fullmatch(prefix):
        scope["root_path"] = prefix
