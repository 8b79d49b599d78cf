"""Files that strangers and other programs can have changed: regular files only, and replaced in one step.

To open a named pipe or a device can take an endless time, so each file is opened without waiting and its kind is looked
at. The modes of new files and folders do not depend on the umask: a service of another user must be able to read them.
"""

from __future__ import annotations

import errno
import hashlib
import os
import stat
from contextlib import suppress
from io import BufferedReader
from pathlib import Path

FILE_MODE = 0o644
FOLDER_MODE = 0o755


def open_file(path: Path, *, follow_links: bool = True) -> BufferedReader:
    """Open a regular file to read it.

    Raises:
        OSError: the file cannot be read, or is a pipe, a device, a socket, a folder, or a link that is not followed.
    """
    status = os.stat(path, follow_symlinks=follow_links)  # to open a device may already do something
    if stat.S_ISLNK(status.st_mode):
        raise OSError(errno.ELOOP, "it is a symbolic link; put the file itself in its place", str(path))
    _check_kind(path, status)
    # the path may have another file by now: without O_NONBLOCK a pipe would be waited for, perhaps without an end
    flags = os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY | (0 if follow_links else os.O_NOFOLLOW)
    descriptor = os.open(path, flags)
    try:
        _check_kind(path, os.fstat(descriptor))
    except OSError:
        os.close(descriptor)
        raise
    return open(descriptor, "rb")


def read_file(path: Path, at_most: int, *, follow_links: bool = False) -> bytes:
    """The content of a regular file of at most that many bytes.

    Raises:
        OSError: the file cannot be read, is not a regular file, or is larger.
    """
    with _open_bounded(path, at_most, follow_links=follow_links) as file:
        return file.read(at_most)


def sha256_of(path: Path, at_most: int) -> str:
    """The SHA-256 of a regular file of at most that many bytes, which is read in pieces.

    Raises:
        OSError: the file cannot be read, is not a regular file, or is larger.
    """
    with _open_bounded(path, at_most, follow_links=False) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def replace_file(path: Path, content: bytes | memoryview, mode: int = FILE_MODE) -> None:
    """Write a file, or replace it in one step: a kill or a loss of power leaves the old file or the new one.

    Two processes that replace the same file at the same time need a lock.

    Raises:
        OSError: the file cannot be written.
    """
    partial = path.with_name(f".{path.name}.partial")
    try:
        partial.unlink(missing_ok=True)  # of a killed process, or a pipe or a link that another program put there
        with partial.open("xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
            os.fchmod(file.fileno(), mode)
        partial.replace(path)
    except OSError:
        with suppress(OSError):
            partial.unlink(missing_ok=True)  # half a file would keep a full disk full
        raise
    sync_folder(path.parent)


def make_folder(path: Path) -> Path:
    """Make a folder and its missing parents, which every user can read.

    Raises:
        OSError: the folder cannot be made, or a file has its path.
    """
    for folder in reversed([folder for folder in (path, *path.parents) if not folder.exists()]):
        with suppress(FileExistsError):  # another process has just made it
            folder.mkdir()
            folder.chmod(FOLDER_MODE)
    if not path.is_dir() and os.path.lexists(path):  # else another process has just removed it
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(path))
    return path


def sync_folder(folder: Path) -> None:
    """Write the names in a folder to the disk; fsync of the files does not do that."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _open_bounded(path: Path, at_most: int, *, follow_links: bool) -> BufferedReader:
    file = open_file(path, follow_links=follow_links)
    if os.fstat(file.fileno()).st_size > at_most:
        file.close()
        raise OSError(errno.EFBIG, f"it is larger than {at_most} bytes", str(path))
    return file


def _check_kind(path: Path, status: os.stat_result) -> None:
    if not stat.S_ISREG(status.st_mode):
        raise OSError(errno.EINVAL, "it is not a regular file", str(path))
