"""Reading a file of a stored model: never a link, a pipe or a device, and never more than it may hold."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path


def read_file(path: Path, at_most: int) -> bytes:
    """The content of a regular file of so many bytes at most.

    Raises:
        OSError: it cannot be read, is no regular file, or is larger.
    """
    with open(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK), "rb") as file:
        status = os.fstat(file.fileno())
        if not stat.S_ISREG(status.st_mode):
            raise OSError(errno.EINVAL, "it is no regular file")
        if status.st_size > at_most:
            raise OSError(errno.EFBIG, f"it is larger than {at_most} bytes")
        return file.read(at_most)
