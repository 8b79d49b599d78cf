"""Folder: the files of a store on a file system, `<root>/<name>/<version>/{card.json, weights.safetensors, …}`.

A version appears whole or not at all: it is written beside the others under a name that readers ignore, and renamed in
one step. It is removed in the opposite order: renamed in one step, and then removed. A command that is killed leaves
nothing but such a folder, which the next one removes. Models and versions may be links to folders; the files of a
version may not be links. Names that begin with `.` or `_` are ignored.
The file `_default` names the default model. The file `.last-<name>` holds the highest number that was given to a
version of that model, so that the number is not given again when the version was removed. The file `.aliases-<name>`
holds the aliases of its versions. The folder `<name>/calibrations/<version>` holds calibrations of a version, which may
come and go.

This module does not interpret the content of the files.
"""

from __future__ import annotations

import fcntl
import os
import re
import secrets
import shutil
import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from ..errors import InvalidName, NoNumberLeft, StoreNotFound, UnusableNumber, VersionExists
from ..files import FOLDER_MODE, make_folder, open_file, read_file, replace_file, sha256_of, sync_folder
from ..version import ModelVersion, is_name, is_number

CARD = "card.json"  # a folder with this file is a version

_CALIBRATIONS = "calibrations"
_JSON = ".json"
_DEFAULT = "_default"  # with a name that no model can have
_ALIASES = ".aliases-"
_MAX_DEFAULT_BYTES = 1000
_MAX_NUMBER_BYTES = 100
_FILE_MODE = 0o444
_IGNORED_PREFIXES = (".", "_")
_UNFINISHED = re.compile(r"\.(incoming|outgoing)-[0-9]+(-[0-9a-f]+)?")

Fingerprint = tuple[tuple[int, ...] | None, ...]


@dataclass(frozen=True)
class Listing:
    """The versions of a store, in order; and the models and versions that are there but cannot be read now.

    `unreadable` has a reason for each path, such as `mnist` or `mnist/2`.
    """

    versions: list[ModelVersion]
    unreadable: dict[str, str]


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

    def paths(self) -> dict[str, Path]:
        """The path of each file, by its name.

        Raises:
            OSError: the folder cannot be read.
        """
        return {
            name: self.path / name for name in sorted(os.listdir(self.path)) if not name.startswith(_IGNORED_PREFIXES)
        }

    def sha256(self, name: str, at_most: int) -> str:
        """The SHA-256 of a file of at most that many bytes.

        Raises:
            OSError: it cannot be read, is not a regular file, or is larger.
        """
        return sha256_of(self.path / name, at_most)


class Folder:
    """A store's folder. It holds no state: every answer is read from the disk."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.default_file = root / _DEFAULT

    def listing(self, name: str | None = None) -> Listing:
        """All versions, or the versions of one model, in order; and the paths that cannot be read.

        Raises:
            StoreNotFound: the root does not exist.
            OSError: the root cannot be read.
        """
        if not self.root.is_dir():
            raise StoreNotFound(self.root)
        names = [folder for folder in os.listdir(self.root) if is_name(folder)] if name is None else [name]
        found = Listing([], {})
        for model in sorted(names):
            _list_model(self.root / model, found)
        return found

    def misplaced(self) -> dict[str, str]:
        """Folders that look like models or versions and are not, by their path in the store, each with the reason.

        Raises:
            OSError: the root cannot be read.
        """
        found: dict[str, str] = {}
        if os.path.isfile(self.root / CARD):
            found["."] = "the store is the folder of one version; name the folder two levels above it as the store"
        for name in sorted(os.listdir(self.root)):
            found.update(_misplaced(self.root, name))
        return found

    def files(self, version: ModelVersion) -> VersionFolder:
        """The files of a version."""
        return VersionFolder(self.root / version.name / str(version.number))

    def fingerprint(self, version: ModelVersion, names: tuple[str, ...]) -> Fingerprint:
        """The inode, size and times of these files of a version, which change when the files do; None for no file.

        Raises:
            OSError: the folder cannot be read.
        """
        return tuple(_identity(self.files(version).path / name) for name in names)

    def read_default(self) -> bytes | None:
        """The content of the file that names the default model; None without such a file.

        Raises:
            OSError: it cannot be read, is not a regular file, or is too long to be a name.
        """
        try:
            # a link is followed: Kubernetes mounts the files of a volume as links
            return read_file(self.default_file, _MAX_DEFAULT_BYTES, follow_links=True)
        except FileNotFoundError:
            if self.default_file.is_symlink():
                raise
            return None

    def write_default(self, content: str) -> None:
        """Replace the file that names the default model, in one step.

        Raises:
            OSError: the root cannot be written.
        """
        with _locked(self.root):
            replace_file(self.default_file, content.encode())

    def models_with_aliases(self) -> list[str]:
        """The names of the models that have a file of aliases.

        Raises:
            StoreNotFound: the root does not exist.
            OSError: the root cannot be read.
        """
        if not self.root.is_dir():
            raise StoreNotFound(self.root)
        names = (entry.removeprefix(_ALIASES) for entry in os.listdir(self.root) if entry.startswith(_ALIASES))
        return sorted(filter(is_name, names))

    def aliases_file(self, name: str) -> Path:
        """The file with the aliases of a model."""
        return self.root / f"{_ALIASES}{name}"

    def read_aliases(self, name: str, at_most: int) -> bytes | None:
        """The content of the file with the aliases of a model; None without such a file.

        Raises:
            OSError: it cannot be read, is not a regular file, or is larger.
        """
        try:
            return read_file(self.aliases_file(name), at_most)
        except FileNotFoundError:
            return None

    def write_aliases(self, name: str, content: str) -> None:
        """Replace the file with the aliases of a model, in one step. The lock must be held.

        Raises:
            OSError: the root cannot be written.
        """
        replace_file(self.aliases_file(name), content.encode())

    def calibration_file(self, version: ModelVersion, name: str) -> Path:
        """The file of a calibration of a version."""
        return self._calibrations(version) / f"{name}{_JSON}"

    def calibrations(self, version: ModelVersion) -> dict[str, tuple[int, ...] | None]:
        """The names of a version's calibrations, in order, each with its file's inode, size and times.

        Raises:
            OSError: the folder cannot be read.
        """
        folder = self._calibrations(version)
        try:
            entries = sorted(os.listdir(folder))
        except FileNotFoundError:
            return {}
        names = (entry.removesuffix(_JSON) for entry in entries if entry.endswith(_JSON))
        return {name: _identity(folder / f"{name}{_JSON}") for name in names if is_name(name)}

    def read_calibration(self, version: ModelVersion, name: str, at_most: int) -> bytes:
        """The content of a calibration of a version.

        Raises:
            OSError: it cannot be read, is not a regular file, or is larger.
        """
        return read_file(self.calibration_file(version, name), at_most)

    def try_to_write_calibration(self, version: ModelVersion) -> None:
        """Write a folder where calibrations of a version would be written, and remove it.

        Raises:
            OSError: a calibration could not be written.
        """
        folder = self._calibrations(version)
        probe = make_folder(folder) / f".probe-{secrets.token_hex(4)}"
        probe.mkdir()
        for made in (probe, folder, folder.parent):
            with suppress(OSError):  # with calibrations, a folder is not empty
                made.rmdir()

    def write_calibration(self, version: ModelVersion, name: str, content: str) -> None:
        """Write a calibration of a version, or replace it in one step. The lock must be held.

        Raises:
            OSError: the store cannot be written.
        """
        file = self.calibration_file(version, name)
        make_folder(file.parent)
        replace_file(file, content.encode())

    def _calibrations(self, version: ModelVersion) -> Path:
        return self.root / version.name / _CALIBRATIONS / str(version.number)

    def try_to_write(self, name: str) -> None:
        """Write a folder where a version would be written, and remove it; and write the last number.

        So a version that is removed while its successor is trained is remembered, even in a store of an older release.

        Raises:
            NoNumberLeft, UnusableNumber: the next version cannot have a number.
            OSError: a version could not be written.
        """
        with self.lock(name):
            version = self.next_version(name)
            probe = self._incoming(version)
            probe.mkdir()
            probe.rmdir()
            self._remember(name, version.number - 1)
            if version.number == 1:
                self._last_file(name).unlink()

    @contextmanager
    def lock(self, name: str) -> Iterator[None]:
        """Lock a model for a change, and remove the unfinished folders of dead commands.

        The system releases the lock when the process ends, so a folder that is unfinished under the lock is abandoned.
        What cannot be removed stays, and so do the files and folders of other programs.
        """
        with _locked(self.root / name) as folder:
            for entry in os.scandir(folder):
                if _UNFINISHED.fullmatch(entry.name) and entry.is_dir(follow_symlinks=False):
                    shutil.rmtree(entry.path, ignore_errors=True)
            yield

    def next_version(self, name: str) -> ModelVersion:
        """The version to publish next: its number is higher than every number that is there or was ever given.

        The lock must be held.

        Raises:
            NoNumberLeft: the highest number is taken.
            UnusableNumber: the file that remembers the last number holds something else.
            OSError: the model's folder cannot be read.
        """
        highest, taken_by = self._highest_number(name)
        if not is_number(str(highest + 1)):
            raise NoNumberLeft(name, highest, taken_by)
        return ModelVersion(name, highest + 1)

    @contextmanager
    def incoming(self, version: ModelVersion, files: Mapping[str, bytes | Path]) -> Iterator[VersionFolder]:
        """Write the files of a new version where readers do not look, and yield them, so that they can be checked.

        A file is given by its bytes, or by the path of a file that is copied. The files become the version at the end
        of the block. If a write or the block fails, they are removed: on a full disk they would take space until the
        next publication.

        Raises:
            VersionExists: another file or folder has the version's path.
            OSError: the files cannot be written.
        """
        final = self.files(version).path
        incoming = self._incoming(version)
        try:
            yield VersionFolder(write_folder(incoming, files))
            # before the version appears: a publisher that is killed between the two steps wastes a number, no more
            self._remember(version.name, version.number)
            try:
                incoming.rename(final)
            except OSError as error:
                if not os.path.lexists(final):
                    raise
                raise VersionExists(version) from error
        finally:
            shutil.rmtree(incoming, ignore_errors=True)  # after the rename it is not there
        sync_folder(final.parent)

    def remove(self, version: ModelVersion) -> None:
        """Remove a version in one step for readers; a reader that has opened its files reads on. The lock must be held.

        Its number is remembered first, even in a store of an older release. A link to a version is removed, and not the
        version that it leads to.

        Raises:
            UnusableNumber: the file that remembers the last number holds something else.
            OSError: the version cannot be removed, or not all of its files.
        """
        path = self.files(version).path
        outgoing = path.with_name(f".outgoing-{version.number}-{secrets.token_hex(4)}")
        self._remember(version.name, self._highest_number(version.name)[0])
        if path.is_symlink():
            path.unlink()
            sync_folder(path.parent)
        else:
            path.rename(outgoing)
            sync_folder(path.parent)
            shutil.rmtree(outgoing)
        shutil.rmtree(self._calibrations(version), ignore_errors=True)  # the number is not given again

    def _highest_number(self, name: str) -> tuple[int, Path]:
        """The highest number that is there or was ever given, and the file or folder that has it."""
        folder = self.root / name
        taken = {int(entry): folder / entry for entry in os.listdir(folder) if is_number(entry)}
        highest = max(self._last_number(name), *taken, 0)
        return highest, taken.get(highest, self._last_file(name))

    def _incoming(self, version: ModelVersion) -> Path:
        """A path for an unfinished version, which the files of no other program have."""
        return self.files(version).path.with_name(f".incoming-{version.number}-{secrets.token_hex(4)}")

    def _last_file(self, name: str) -> Path:
        """The file with the highest number that was given to a model; in the root, so that it outlives the model."""
        return self.root / f".last-{name}"

    def _remember(self, name: str, number: int) -> None:
        replace_file(self._last_file(name), f"{number}\n".encode())

    def _last_number(self, name: str) -> int:
        path = self._last_file(name)
        try:
            content = read_file(path, _MAX_NUMBER_BYTES).decode(errors="replace").strip()
        except FileNotFoundError:
            return 0
        except OSError as error:
            raise UnusableNumber(path, error.strerror or str(error)) from error
        if content != "0" and not is_number(content):
            raise UnusableNumber(path, f"it holds {content!r}")
        return int(content)


def _list_model(folder: Path, found: Listing) -> None:
    """Add the versions of a model, or the reason why its folder cannot be read, to what was found.

    A link that leads nowhere cannot be read either: its volume may be away for a moment.
    """
    try:
        numbers = sorted(int(entry) for entry in os.listdir(folder) if is_number(entry))
    except NotADirectoryError:
        return
    except OSError as error:
        found.unreadable[folder.name] = error.strerror or str(error)
        return
    for number in numbers:
        try:
            if stat.S_ISDIR((folder / str(number)).stat().st_mode):
                found.versions.append(ModelVersion(folder.name, number))
        except OSError as error:
            found.unreadable[f"{folder.name}/{number}"] = error.strerror or str(error)


def _misplaced(root: Path, name: str) -> Iterator[tuple[str, str]]:
    """The path and the reason for each folder under `name` that looks like a model or a version and is not."""
    model = root / name
    if name.startswith(_IGNORED_PREFIXES):
        return
    try:
        is_folder = stat.S_ISDIR(model.stat().st_mode)
    except OSError as error:
        if os.path.islink(model):
            yield name, "it is a link that leads nowhere"
        elif is_name(name) and os.path.lexists(model):  # else it was removed a moment ago
            yield name, f"it cannot be read: {error.strerror}"
        return
    if not is_folder:
        return
    try:
        entries = sorted(os.listdir(model))
    except OSError as error:
        if is_name(name):
            yield name, f"it cannot be read: {error.strerror}"
        return
    if os.path.lexists(model / CARD):
        if is_number(name):
            reason = f"the store is the folder of one model, with its version {name}"
            yield name, f"{reason}; name the folder above it as the store"
        else:
            yield name, f"a version is a folder in it, such as {name}/1"
    for entry in entries:
        if not entry.startswith(_IGNORED_PREFIXES):
            yield from _misplaced_version(name, entry, model / entry)


def _misplaced_version(name: str, number: str, version: Path) -> Iterator[tuple[str, str]]:
    """The path and the reason, if an entry of a model's folder looks like a version and is not."""
    if is_name(name) and os.path.islink(version) and not os.path.exists(version):
        yield f"{name}/{number}", "it is a link that leads nowhere"
    elif os.path.lexists(version / CARD) and not is_name(name):
        yield f"{name}/{number}", str(InvalidName(name))
    elif os.path.lexists(version / CARD) and not is_number(number):
        yield f"{name}/{number}", f"{number!r} is not a version: rename the folder to a whole number, such as 1"


def write_folder(folder: Path, files: Mapping[str, bytes | Path]) -> Path:
    """Write files into a new folder, all of them on the disk and not only in the system's memory at the end.

    A file is given by its bytes, or by the path of a regular file, which is copied in pieces.

    Raises:
        OSError: the folder exists, or cannot be written; or a file cannot be read.
    """
    folder.mkdir()
    folder.chmod(FOLDER_MODE)
    for name, content in files.items():
        try:
            _write_file(folder / name, content)
        except OSError as error:
            error.filename = error.filename or str(folder / name)  # a full disk does not say which file it was
            raise
    sync_folder(folder)
    return folder


def _write_file(path: Path, content: bytes | Path) -> None:
    with path.open("xb") as file:
        if isinstance(content, Path):
            with open_file(content, follow_links=False) as source:
                shutil.copyfileobj(source, file)
        else:
            file.write(content)
        file.flush()
        os.fsync(file.fileno())
        os.fchmod(file.fileno(), _FILE_MODE)


@contextmanager
def _locked(folder: Path) -> Iterator[Path]:
    """Wait until no other process has the lock of a folder, and hold it in this block.

    A folder that is not there is made for the block. If it is empty at the end, it is removed.
    """
    descriptor = None
    while descriptor is None:  # else the process that had the lock has removed the folder
        is_new = not folder.exists()
        descriptor = _lock(make_folder(folder))
    try:
        yield folder
    finally:
        if is_new:
            with suppress(OSError):
                folder.rmdir()
        os.close(descriptor)


def _lock(folder: Path) -> int | None:
    """The descriptor that has the lock of a folder; None if the folder was removed before it had the lock."""
    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        if os.path.samestat(folder.stat(), os.fstat(descriptor)):
            return descriptor
    except FileNotFoundError:
        pass
    except BaseException:
        os.close(descriptor)
        raise
    os.close(descriptor)
    return None


def _identity(file: Path) -> tuple[int, ...] | None:
    try:
        status = file.lstat()
    except FileNotFoundError:
        return None
    return status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns
