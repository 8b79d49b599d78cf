"""Hosts: the names by which clients may call the service; a request under another name is refused.

A browser lets a page read answers of the page's own host, and the owner of that name can make it lead to 127.0.0.1 (DNS
rebinding). Such a page would read what a service without keys answers to this machine alone. Its requests still have
the page's name in their Host header.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address, ip_address

from starlette.types import ASGIApp, Receive, Scope, Send

from ..errors import MisdirectedRequest
from .problems import respond

_AUTHORITY = re.compile(r"(?:\[([0-9a-f:.]+)\]|([a-z0-9_.-]+?))\.?(?::[0-9]{0,5})?")


class Hosts:
    """Pure ASGI that refuses requests whose Host is neither this machine nor among the names.

    A name such as `*.example.org` stands for all names that end so. The address at which a request has arrived is
    allowed too: a probe may call a container by its address, and no page can have an address as its name.
    """

    def __init__(self, app: ASGIApp, names: Sequence[str]) -> None:
        self._app = app
        self._names = frozenset(names)
        self._endings = tuple(name.removeprefix("*") for name in names if name.startswith("*."))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or refuse it. A request of HTTP/1.0 may have no Host; browsers always send one."""
        hosts = [value.decode("latin-1") for name, value in scope.get("headers", ()) if name == b"host"]
        server, _ = scope.get("server") or ("", None)
        foreign = [host for host in map(host_of, hosts) if not self._is_ours(host, server)]
        app = respond(scope["state"], MisdirectedRequest(foreign[0])) if foreign else self._app
        await app(scope, receive, send)

    def _is_ours(self, host: str, server: str) -> bool:
        if host in self._names or host.endswith(self._endings) or is_local(host):
            return True
        address = address_of(host)
        return address is not None and address == address_of(server)


def host_of(authority: str) -> str:
    """The host of a Host header in small letters, without port, brackets or the dot of the root; empty if it is odd."""
    match = _AUTHORITY.fullmatch(authority.lower())
    return (match[1] or match[2]) if match else ""


def is_local(host: str) -> bool:
    """Whether a host always means this machine: `localhost`, a name below it, or a loopback address."""
    address = address_of(host)
    return address.is_loopback if address else host == "localhost" or host.endswith(".localhost")


def address_of(host: str) -> IPv4Address | IPv6Address | None:
    """The address that a host is, or None if it is a name. An IPv4 address in IPv6 is that IPv4 address."""
    return _address(host[:64])  # an address is shorter; a Host header can be long, and the answers are cached


@lru_cache(maxsize=1024)
def _address(host: str) -> IPv4Address | IPv6Address | None:
    try:
        address = ip_address(host)
    except ValueError:
        return None
    return (address.ipv4_mapped or address) if isinstance(address, IPv6Address) else address
