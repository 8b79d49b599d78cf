"""Clients are told apart by their keys, or else by their addresses."""

from typing import Any

import pytest
from pydantic import SecretStr

from service.http.client import UNKNOWN, address_of, client_of, unchecked_client_of
from service.http.keys import Keys


def scope(host: str | None, key: str = "") -> dict[str, Any]:
    """The scope of a request from that address, with a key."""
    client = (host, 4711) if host is not None else None
    return {"client": client, "headers": [(b"authorization", f"Bearer {key}".encode())]}


@pytest.mark.parametrize(
    ("host", "name"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("2001:db8:0:1::7", "2001:db8:0:1::/64"),
        ("2001:db8:0:1:ffff:ffff:ffff:ffff", "2001:db8:0:1::/64"),
        ("2001:db8:0:2::7", "2001:db8:0:2::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("::1", "::/64"),
        ("", UNKNOWN),
        ("192.0.2.7:80", UNKNOWN),
        ("a" * 10_000, UNKNOWN),
        (None, UNKNOWN),
    ],
)
def test_client_without_keys_is_its_address(host: str | None, name: str) -> None:
    """A customer of an IPv6 provider has 2⁶⁴ addresses, and is one client. A header gives a client no other name."""
    assert client_of(scope(host, "any key"), Keys()) == name


def test_client_with_a_key_is_its_key_wherever_it_is() -> None:
    """Two keys are two clients at one address, and a key is one client at two addresses."""
    keys = Keys([SecretStr("first"), SecretStr("second")])
    here, there, other = (client_of(scope(*of), keys) for of in (("::1", "first"), (None, "first"), ("::1", "second")))

    assert here == there != other
    assert "first" not in here


def test_name_of_a_key_cannot_be_computed_from_the_key() -> None:
    """If a name is seen in a log, a short key must not be found by trying."""
    named = [SecretStr("first")]

    assert client_of(scope(None, "first"), Keys(named)) != client_of(scope(None, "first"), Keys(named))


def test_wrong_keys_of_one_address_are_one_client() -> None:
    """A client with a key does not wait behind a thousand keys that are wrong."""
    keys = Keys([SecretStr("right")])
    right, *wrong = (
        unchecked_client_of(scope("::1", key), keys, address_of) for key in ("right", "wrong", "other", "")
    )

    assert right == client_of(scope("::1", "right"), keys)
    assert wrong == ["::/64"] * 3
