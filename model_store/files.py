"""Reading a file of a stored model: never a link, a pipe or a device, and never more than it may hold."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path


def read_file(path: Path, at_most: int) -> bytes:
    """The content of a regular file of so many bytes at most.

    Raises:
        OSError: it cannot be read, is not a regular file, or is larger.
    """
    try:
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
