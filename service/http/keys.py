"""The API keys: of the settings, and of a file."""

from __future__ import annotations

import base64
import hashlib
import hmac
import secrets
from collections.abc import Iterable, Sequence
from pathlib import Path

from pydantic import SecretStr

from .key_file import KeyFile


class Keys:
    """The API keys, as SHA-256 digests: they have the same length, and a memory dump does not show the keys.

    Raises:
        ValueError: the file cannot be used.
    """

    def __init__(self, named: Sequence[SecretStr] = (), file: Path | None = None) -> None:
        self._named = [hashlib.sha256(key.get_secret_value().encode()).digest() for key in named]
        self._file = KeyFile(file) if file else None
        self._secret = secrets.token_bytes(32)

    @property
    def are_needed(self) -> bool:
        """Whether requests without a key are refused."""
        return bool(self._named) or self._file is not None

    def admit(self, headers: Iterable[tuple[bytes, bytes]]) -> bool:
        """Whether a request with these raw headers may pass. The check's duration reveals nothing about the keys."""
        if not self.are_needed:
            return True
        from_file = self._file.digests() if self._file else []
        given = hashlib.sha256(key_in(headers)).digest()
        return sum(hmac.compare_digest(given, known) for known in (*self._named, *from_file)) > 0

    def name(self, headers: Iterable[tuple[bytes, bytes]]) -> str:
        """A name for the key of an admitted request, which does not reveal the key. Each process has its own names."""
        return hashlib.blake2b(key_in(headers), key=self._secret, digest_size=16).hexdigest()


def key_in(headers: Iterable[tuple[bytes, bytes]]) -> bytes:
    """The key in the Authorization header; empty, which is never valid, if there are several or another scheme."""
    values = [value for name, value in headers if name == b"authorization"]
    scheme, _, rest = values[0].partition(b" ") if len(values) == 1 else (b"", b"", b"")
    credentials = rest.strip()
    match scheme.lower():
        case b"bearer":
            return credentials
        case b"basic":
            return basic_key(credentials)
    return b""


def basic_key(credentials: bytes) -> bytes:
    """The key in credentials of HTTP Basic (RFC 7617): the password, or the user if the password is empty.

    A client that takes an address and no headers sends them for https://user:KEY@host.
    """
    try:
        user, _, password = base64.b64decode(credentials, validate=True).partition(b":")
    except ValueError:
        return b""
    return password or user
