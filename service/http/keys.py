"""The API keys of the settings, and of a file that may change while the service runs."""

from __future__ import annotations

import hashlib
import hmac
import os
import re
import secrets
import time
from collections.abc import Iterable, Sequence
from pathlib import Path

import structlog
from pydantic import SecretStr

POLL_S = 1.0
VISIBLE = re.compile("[!-~]+")

log = structlog.get_logger()


class Keys:
    """The API keys, as SHA-256 digests: they have the same length, and a memory dump does not show the keys.

    The file has one key in each line; empty lines and lines that begin with # are ignored. The service looks for
    changes once a second at most. If the file becomes unusable, the keys that were read before stay valid.

    Raises:
        ValueError: the file cannot be used.
    """

    def __init__(self, named: Sequence[SecretStr] = (), file: Path | None = None) -> None:
        self._named = [hashlib.sha256(key.get_secret_value().encode()).digest() for key in named]
        self._file = file
        self._seen: object = None
        self._polled_at = -POLL_S
        self._from_file: list[bytes] = []
        self._secret = secrets.token_bytes(32)
        if file is not None:
            self._seen, self._from_file = _state(file), read_keys(file)
            self._polled_at = time.monotonic()

    @property
    def are_needed(self) -> bool:
        """Whether requests without a key are refused."""
        return bool(self._named) or self._file is not None

    def admit(self, headers: Iterable[tuple[bytes, bytes]]) -> bool:
        """Whether a request with these raw headers may pass. The check's duration reveals nothing about the keys."""
        if not self.are_needed:
            return True
        self._reload_if_changed()
        given = hashlib.sha256(bearer_key(headers)).digest()
        return sum(hmac.compare_digest(given, known) for known in (*self._named, *self._from_file)) > 0

    def name(self, headers: Iterable[tuple[bytes, bytes]]) -> str:
        """A name for the key of an admitted request, which does not reveal the key. Each process has its own names."""
        return hashlib.blake2b(bearer_key(headers), key=self._secret, digest_size=16).hexdigest()

    def _reload_if_changed(self) -> None:
        """Read the file again if it has changed, and if a second has passed since the last check."""
        if self._file is None or time.monotonic() - self._polled_at < POLL_S:
            return
        self._polled_at = time.monotonic()
        try:
            if (state := _state(self._file)) == self._seen:
                return
            self._from_file, self._seen = read_keys(self._file), state
            log.info("keys read", file=str(self._file), keys=len(self._from_file))
        except ValueError as error:
            log.error(
                "keys not read",
                reason=str(error),
                remedy="correct the file; until then the keys that it had before stay valid",
            )


def bearer_key(headers: Iterable[tuple[bytes, bytes]]) -> bytes:
    """The key in the Authorization header; empty, which is never valid, if there are several or another scheme."""
    values = [value for name, value in headers if name == b"authorization"]
    scheme, _, key = values[0].partition(b" ") if len(values) == 1 else (b"", b"", b"")
    return key.strip() if scheme.lower() == b"bearer" else b""


def _state(file: Path) -> object:
    """A value that changes when the file does."""
    try:
        status = os.stat(file)
    except OSError as error:
        raise ValueError(f"{file} cannot be read: {error.strerror}.") from error
    return status.st_mtime_ns, status.st_ino, status.st_size


def read_keys(file: Path) -> list[bytes]:
    """The digests of the keys in a file. `Keys` tells how the file is written.

    Raises:
        ValueError: the file cannot be read, has no key, or has a line that is not a key.
    """
    try:
        lines = [line.strip() for line in file.read_text(encoding="ascii").splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"{file} cannot be read; expected ASCII text with a key in each line.") from error
    keys = [line for line in lines if line and not line.startswith("#")]
    if not keys:
        raise ValueError(f"{file} has no key; write at least one, each in a line of its own.")
    if not all(VISIBLE.fullmatch(key) for key in keys):
        raise ValueError(f"{file} has a line that is not a key; a key has visible ASCII characters and no spaces.")
    return [hashlib.sha256(key.encode()).digest() for key in keys]
