"""Folder: the files of a store on a file system, `<root>/<name>/<version>/{card.json, weights.safetensors, …}`.

A version appears whole or not at all: it is written beside the others under a name that readers ignore, and renamed in
one step. A publisher that is killed leaves nothing but such a folder, which the next publisher removes. Models and
versions may be links to folders; the files of a version may not be links. Names that begin with `.` or `_` are ignored.
The file `_default` names the default model.

This module does not interpret the content of the files.
"""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
import stat
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from ..errors import InvalidName, StoreNotFound, VersionExists
from ..version import ModelVersion, is_name, is_number

CARD = "card.json"  # a folder with this file is a version

_DEFAULT = "_default"  # with a name that no model can have
_MAX_DEFAULT_BYTES = 1000
_FILE_MODE = 0o444
_FOLDER_MODE = 0o755
_SHARED_FILE_MODE = 0o644
_IGNORED_PREFIXES = (".", "_")


@dataclass(frozen=True)
class VersionFolder:
    """The files of one version; messages to people show `path`."""

    path: Path

    def read(self, name: str, at_most: int) -> bytes:
        """The content of a file of at most that many bytes.

        Raises:
            OSError: it cannot be read, is not a regular file, or is larger.
        """
        return read_file(self.path / name, at_most)


class Folder:
    """A store's folder. It holds no state: every answer is read from the disk."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.default_file = root / _DEFAULT

    def versions(self, name: str | None = None) -> list[ModelVersion]:
        """All versions, or the versions of one model, in order.

        Raises:
            StoreNotFound: the root does not exist.
            OSError: the root cannot be read.
        """
        if not self.root.is_dir():
            raise StoreNotFound(self.root)
        names = [folder for folder in os.listdir(self.root) if is_name(folder)] if name is None else [name]
        return sorted(
            ModelVersion(name, int(number))
            for name in names
            for number in filter(is_number, subfolders(self.root / name))
        )

    def misplaced(self) -> dict[str, str]:
        """Folders that look like models or versions and are not, by their path in the store, each with the reason.

        Raises:
            OSError: the root cannot be read.
        """
        found: dict[str, str] = {}
        if (self.root / CARD).is_file():
            found["."] = "the store is the folder of one version; name the folder two levels above it as the store"
        for name in sorted(os.listdir(self.root)):
            found.update(_misplaced(self.root, name))
        return found

    def files(self, version: ModelVersion) -> VersionFolder:
        """The files of a version."""
        return VersionFolder(self.root / version.name / str(version.number))

    def fingerprint(self, version: ModelVersion) -> tuple[tuple[str, int, int], ...]:
        """The name, size and time of each file of a version, which change when the files do."""
        files = self.files(version).path.glob("*")
        return tuple(sorted((file.name, (status := file.lstat()).st_size, status.st_mtime_ns) for file in files))

    def read_default(self) -> bytes | None:
        """The content of the file that names the default model; None without such a file.

        Raises:
            OSError: it cannot be read, or is too long to be a name.
        """
        if not (self.default_file.is_file() or self.default_file.is_symlink()):
            return None
        # a link is followed: Kubernetes mounts the files of a volume as links
        return read_file(self.default_file.resolve(), _MAX_DEFAULT_BYTES)

    def write_default(self, content: str) -> None:
        """Replace the file that names the default model, in one step.

        Raises:
            OSError: the root cannot be written.
        """
        incoming = self.root / f".incoming-{_DEFAULT}"
        try:
            incoming.write_text(content)
            incoming.chmod(_SHARED_FILE_MODE)
            incoming.replace(self.default_file)
        finally:
            incoming.unlink(missing_ok=True)

    def try_to_write(self, name: str) -> None:
        """Write a file where a version of the model would be written, and remove it.

        Raises:
            OSError: a version could not be written.
        """
        with tempfile.TemporaryDirectory(prefix=".probe-", dir=self._model_folder(name)):
            pass

    @contextmanager
    def lock(self, name: str) -> Iterator[None]:
        """Lock a model for publishing, and remove the unfinished folders of dead publishers.

        The system releases the lock when the process ends, so a folder that is unfinished under the lock is abandoned.
        """
        folder = self._model_folder(name)
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            for abandoned in folder.glob(".incoming-*"):
                shutil.rmtree(abandoned)
            yield
        finally:
            os.close(descriptor)

    @contextmanager
    def incoming(self, version: ModelVersion, files: Mapping[str, bytes]) -> Iterator[VersionFolder]:
        """Write the files of a new version where readers do not look, and yield them, so that they can be checked.

        They become the version at the end of the block. If a write or the block fails, they are removed: on a full
        disk they would take space until the next publication.

        Raises:
            VersionExists: another file or folder has the version's path.
            OSError: the files cannot be written.
        """
        final = self.files(version).path
        incoming = final.with_name(f".incoming-{version.number}")
        try:
            yield VersionFolder(write_folder(incoming, files))
            try:
                incoming.rename(final)
            except OSError as error:
                raise VersionExists(version) from error
        finally:
            shutil.rmtree(incoming, ignore_errors=True)  # after the rename it is not there
        _sync(final.parent)

    def _model_folder(self, name: str) -> Path:
        """The folder of a model. It is made if it is missing, and a service under another user can read it."""
        folder = self.root / name
        if not folder.is_dir():
            folder.mkdir(parents=True, exist_ok=True)
            folder.chmod(_FOLDER_MODE)
        return folder


def read_file(path: Path, at_most: int) -> bytes:
    """The content of a regular file of at most that many bytes; never of a link, a pipe or a device.

    Raises:
        OSError: it cannot be read, is not a regular file, or is larger.
    """
    try:
        # without O_NONBLOCK a pipe would be waited for, perhaps without an end
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError as error:
        if error.errno != errno.ELOOP:
            raise
        raise OSError(errno.ELOOP, "it is a symbolic link; put the file itself in its place") from error
    with open(descriptor, "rb") as file:
        status = os.fstat(file.fileno())
        if not stat.S_ISREG(status.st_mode):
            raise OSError(errno.EINVAL, "it is not a regular file")
        if status.st_size > at_most:
            raise OSError(errno.EFBIG, f"it is larger than {at_most} bytes")
        return file.read(at_most)


def subfolders(parent: Path) -> list[str]:
    """The names of the folders, and of the links to folders, in a folder; none if it cannot be read."""
    try:
        return [entry.name for entry in os.scandir(parent) if os.path.isdir(entry)]
    except OSError:
        return []


def _misplaced(root: Path, name: str) -> Iterator[tuple[str, str]]:
    """The path and the reason for each folder under `name` that looks like a model or a version and is not."""
    model = root / name
    if name.startswith(_IGNORED_PREFIXES) or not (model.is_dir() or model.is_symlink()):
        return
    if not model.exists():
        yield name, "it is a link that leads nowhere"
        return
    if os.path.lexists(model / CARD):
        if is_number(name):
            reason = f"the store is the folder of one model, with its version {name}"
            yield name, f"{reason}; name the folder above it as the store"
        else:
            yield name, f"a version is a folder in it, such as {name}/1"
    try:
        versions = sorted(os.listdir(model))
    except OSError as error:
        if is_name(name):
            yield name, f"it cannot be read: {error.strerror}"
        return
    for number in versions:
        version = model / number
        if number.startswith(_IGNORED_PREFIXES):
            continue
        if is_name(name) and version.is_symlink() and not version.exists():
            yield f"{name}/{number}", "it is a link that leads nowhere"
        elif os.path.lexists(version / CARD) and not is_name(name):
            yield f"{name}/{number}", str(InvalidName(name))
        elif os.path.lexists(version / CARD) and not is_number(number):
            yield f"{name}/{number}", f"{number!r} is not a version: rename the folder to a whole number, such as 1"


def write_folder(folder: Path, files: Mapping[str, bytes]) -> Path:
    """Write files into a new folder, all of them on the disk and not only in the system's memory at the end.

    Raises:
        OSError: the folder exists, or cannot be written.
    """
    folder.mkdir()
    for name, content in files.items():
        with (folder / name).open("xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
            os.fchmod(file.fileno(), _FILE_MODE)
    folder.chmod(_FOLDER_MODE)
    _sync(folder)
    return folder


def _sync(folder: Path) -> None:
    """Write the names in a folder to the disk; fsync of the files does not do that."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
