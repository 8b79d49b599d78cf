"""Load attempts: versions that ended the process while they were loaded are remembered, and refused at the next start.

Before a version is loaded, a line is written into a file of its own; after it was loaded, refused or given up, the file
is removed. Only a process that was killed leaves the line there. An operator may kill a process too, so that a version
is refused after `DEATHS` lines in a row, and for `FORGOTTEN_S` at most. A file that another living process has locked
is left alone: that process loads the same version now.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib.metadata import version as release
from pathlib import Path

import structlog

from model_store import Card, ModelVersion
from model_store.files import sync_folder

DEATHS = 2
FORGOTTEN_S = 24 * 3600

log = structlog.get_logger()


class EndsProcess(ValueError):
    """A version that ended the process, twice in a row, while it was loaded."""

    def __init__(self, file: str) -> None:
        super().__init__(
            f"The process ended {DEATHS} times in a row while this version was loaded and warmed up, perhaps because "
            "it needs more memory than there is. Publish a smaller model, or give the service more memory, delete the "
            f"file {file} in the folder of the setting cache and restart; the file is forgotten after a day."
        )


class LoadAttempts:
    """Files in a folder. If it cannot be written, nothing is remembered, and the log says so once."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._noted: set[Path] = set()
        self._is_useless = False

    def withdraw(self) -> None:
        """Called when the process is asked to end: the versions that it loads at this moment do not end it."""
        for file in list(self._noted):
            with suppress(OSError):
                file.unlink()

    @contextmanager
    def attempt(self, version: ModelVersion, card: Card, device: str) -> Iterator[None]:
        """Remember that a version is being loaded on a device, until the block ends.

        Raises:
            EndsProcess: the process ended twice in a row within such a block.
        """
        facts = f"{release('latentd')} {device} {card.to_json()}"
        file = self._folder / f"{hashlib.sha256(facts.encode()).hexdigest()[:32]}.loading"
        descriptor = None
        try:
            descriptor = self._note(file, version)
        except OSError as error:
            if not self._is_useless:
                self._is_useless = True
                remedy = "set cache to a folder that can be written"
                log.warning("a version that ends the process is not remembered", reason=str(error), remedy=remedy)
        if descriptor is None:
            yield
            return
        try:
            yield
        finally:
            self._noted.discard(file)
            with suppress(OSError):
                file.unlink()
            os.close(descriptor)

    def _note(self, file: Path, version: ModelVersion) -> int | None:
        """Lock the file of a version and add a line to it; None if another process has locked the file."""
        self._folder.mkdir(parents=True, exist_ok=True)
        flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        descriptor = os.open(file, flags, 0o600)
        try:
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode):
                raise OSError(f"{file.name} is not a regular file")
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if abs(time.time() - status.st_mtime) > FORGOTTEN_S:
                os.truncate(descriptor, 0)
            if os.read(descriptor, 4096).count(b"\n") >= DEATHS:
                raise EndsProcess(file.name)
            self._noted.add(file)
            os.write(descriptor, f"{version} is being loaded by process {os.getpid()}\n".encode())
            os.fsync(descriptor)
            sync_folder(self._folder)
        except BlockingIOError:
            os.close(descriptor)
            return None
        except BaseException:
            self._noted.discard(file)
            os.close(descriptor)
            raise
        return descriptor
