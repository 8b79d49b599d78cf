"""The name of the client of a request: clients share the service fairly, and are told apart by this name."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from ipaddress import IPv4Address, ip_address, ip_network

from starlette.types import Scope

from .keys import Keys

UNKNOWN = "unknown"  # all requests through a unix socket, or from an address that is not an IP address
IPV6_BITS = 64  # of an address; a provider gives each customer all addresses that begin with the same 64 bits


def client_of(scope: Scope, keys: Keys) -> str:
    """The client of an admitted request: its API key where the service has keys, else its address.

    The address is the one that `Forwarded` leaves in the scope.
    """
    if keys.are_needed:
        return keys.name(scope["headers"])
    return address_of(scope)


def unchecked_client_of(scope: Scope, keys: Keys, address: Callable[[Scope], str]) -> str:
    """The client of a request whose key nothing has checked yet: its key if that is valid, else its address.

    Each wrong key would else be a client of its own.
    """
    if keys.are_needed and keys.admit(scope["headers"]):
        return keys.name(scope["headers"])
    return address(scope)


def address_of(scope: Scope) -> str:
    """The address of a client, as the scope has it."""
    host = scope["client"][0] if scope.get("client") else ""
    return address_name(host[:64])  # a forwarded header can be long, and the names are cached


@lru_cache(maxsize=4096)
def address_name(host: str) -> str:
    """The IPv4 address of a client, or the network of its IPv6 address."""
    try:
        address = ip_address(host)
    except ValueError:
        return UNKNOWN
    if isinstance(address, IPv4Address):
        return str(address)
    # A socket that listens on :: writes ::ffff: before an IPv4 address.
    return str(address.ipv4_mapped or ip_network((int(address), IPV6_BITS), strict=False))
