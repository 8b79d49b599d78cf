"""The file of API keys, which may change while the service runs."""

from __future__ import annotations

import hashlib
import re
import time
from pathlib import Path

import structlog

from model_store.files import read_file

from .spare_descriptor import SpareDescriptor

POLL_S = 1.0
GRACE_S = 60.0  # in which the last keys stay valid while the file cannot be used: it is being replaced or corrected
MAX_BYTES = 262_144
MAX_KEYS = 1000  # each request's key is compared with all of them, in 0.2 ms

VISIBLE = re.compile(rb"[!-~]+")

log = structlog.get_logger()


class KeyFile:
    """The keys of a file, as SHA-256 digests.

    The file has one key in each line; empty lines and lines that begin with # are ignored. The service reads the file
    again once a second at most, when a request comes: a file can be replaced with its time and its size kept. A file
    without a key admits no request. While the file cannot be read, or has a line that is not a key, the keys that it
    had before stay valid, for GRACE_S at most: a key that was taken back must not stay valid because of an accident.

    Raises:
        ValueError: the file cannot be used, or has no key.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        content = read(path)
        self._digests = digests_of(path, content)
        if not self._digests:
            raise ValueError(f"{path} has no key; write at least one, each in a line of its own.")
        self._seen: bytes | None = hashlib.sha256(content).digest()
        self._polled_at = time.monotonic()
        self._unusable_since: float | None = None

    def digests(self) -> list[bytes]:
        """The digests of the keys that are valid now."""
        now = time.monotonic()
        if now - self._polled_at >= POLL_S:
            self._polled_at = now
            try:
                self._read_again()
            except ValueError as error:
                self._note_unusable(now, str(error))
        return self._digests

    def _read_again(self) -> None:
        content = read(self._path)
        if (seen := hashlib.sha256(content).digest()) == self._seen:
            return
        self._digests = digests_of(self._path, content)
        self._seen, self._unusable_since = seen, None
        if self._digests:
            log.info("keys read", file=str(self._path), keys=len(self._digests))
        else:
            log.warning("no keys", file=str(self._path), reason="the file has no key, so it admits no request")

    def _note_unusable(self, now: float, reason: str) -> None:
        self._seen = None  # so that the file counts again when it is as before
        if self._unusable_since is None:
            self._unusable_since = now
            remedy = f"correct the file; the keys that it had before stay valid for {GRACE_S:g} s"
            log.error("keys not read", reason=reason, remedy=remedy)
        if self._digests and now - self._unusable_since >= GRACE_S:
            self._digests = []
            log.error("no keys", reason=reason, remedy="correct the file; until then it admits no request")


_SPARE = SpareDescriptor()


def read(path: Path) -> bytes:
    """The content of the file.

    Raises:
        ValueError: the file cannot be read, is not a regular file, or is too large.
    """
    try:
        with _SPARE.free():
            return read_file(path, MAX_BYTES, follow_links=True)  # Kubernetes mounts the files of a secret as links
    except OSError as error:
        raise ValueError(
            f"{path} cannot be read: {error.strerror}; write the keys into it, a line for each."
        ) from error


def digests_of(path: Path, content: bytes) -> list[bytes]:
    """The digests of the keys in the content of a file.

    Raises:
        ValueError: a line is not a key, or there are too many keys.
    """
    lines = [line.strip() for line in content.splitlines()]
    keys = [line for line in lines if line and not line.startswith(b"#")]
    if not all(VISIBLE.fullmatch(key) for key in keys):
        raise ValueError(f"{path} has a line that is not a key; a key has visible ASCII characters and no spaces.")
    if len(keys) > MAX_KEYS:
        raise ValueError(f"{path} has {len(keys):,} keys; the limit is {MAX_KEYS:,}.")
    return [hashlib.sha256(key).digest() for key in keys]
