"""Who may ask: the keys that the settings name, and those of a file, which may change while the service runs."""

from __future__ import annotations

import hashlib
import hmac
import os
import re
import time
from collections.abc import Iterable, Sequence
from pathlib import Path

import structlog
from pydantic import SecretStr

LOOK_S = 1.0
VISIBLE = re.compile("[!-~]+")

log = structlog.get_logger()


class Keys:
    """Keys, kept as their hashes: all as long as each other, and of no use to who reads this process's memory.

    A file has one in each line; empty lines, and those that begin with #, are passed over. It is looked at once a
    second at most. If it cannot be used any more, the keys that it had are still good.

    Raises:
        ValueError: there is a file, and it cannot be used.
    """

    def __init__(self, named: Sequence[SecretStr] = (), file: Path | None = None) -> None:
        self._named = [_hash(key.get_secret_value().encode()) for key in named]
        self._file = file
        self._seen: object = None
        self._looked = -LOOK_S
        self._from_file: list[bytes] = []
        if file is not None:
            self._seen, self._from_file = _state(file), _read(file)
            self._looked = time.monotonic()

    @property
    def are_needed(self) -> bool:
        """Whether somebody without a key is turned away."""
        return bool(self._named) or self._file is not None

    def admit(self, headers: Iterable[tuple[bytes, bytes]]) -> bool:
        """Whether a request with these raw headers may pass; for each wrong key it takes as long to say so."""
        if not self.are_needed:
            return True
        self._look()
        given = _hash(_bearer(headers))
        return sum(hmac.compare_digest(given, known) for known in (*self._named, *self._from_file)) > 0

    def _look(self) -> None:
        """Read the file again if it has changed."""
        if self._file is None or time.monotonic() - self._looked < LOOK_S:
            return
        self._looked = time.monotonic()
        try:
            if (state := _state(self._file)) == self._seen:
                return
            self._from_file, self._seen = _read(self._file), state
            log.info("keys read", file=str(self._file), keys=len(self._from_file))
        except ValueError as error:
            log.error("keys not read", reason=str(error), remedy="put it right; those from before are still good")


def _bearer(headers: Iterable[tuple[bytes, bytes]]) -> bytes:
    """The key of the one Authorization header; empty, which is no key, where there are several, or another scheme."""
    values = [value for name, value in headers if name == b"authorization"]
    scheme, _, key = values[0].partition(b" ") if len(values) == 1 else (b"", b"", b"")
    return key.strip() if scheme.lower() == b"bearer" else b""


def _hash(key: bytes) -> bytes:
    return hashlib.sha256(key).digest()


def _state(file: Path) -> object:
    """What changes when a file does."""
    try:
        status = os.stat(file)
    except OSError as error:
        raise ValueError(f"{file} cannot be read: {error.strerror}.") from error
    return status.st_mtime_ns, status.st_ino, status.st_size


def _read(file: Path) -> list[bytes]:
    try:
        lines = [line.strip() for line in file.read_text(encoding="ascii").splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"{file} cannot be read; expected lines of ASCII, a key in each.") from error
    keys = [line for line in lines if line and not line.startswith("#")]
    if not keys:
        raise ValueError(f"{file} has no key; write one into a line of it.")
    if not all(VISIBLE.fullmatch(key) for key in keys):
        raise ValueError(f"{file} has a line that is no key; each takes visible ASCII characters, and no spaces.")
    return [_hash(key.encode()) for key in keys]
