"""Pixels that do not fit into the memory: files in a cache, which the system maps into memory page by page.

A file grows picture by picture. Beside it is the progress, so that a run that was stopped while it read a folder goes
on where it was. The name of the file's folder is a hash of the pictures and of the rules by which they became pixels.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from math import prod
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from model_store.files import make_folder, read_file, replace_file

from ..errors import BadData
from ..recipe import DataRecipe

Shape = tuple[int, int, int]

_FORMAT = 1  # of the pixels: a higher number makes old files unused
_FOLDER = "pixels"
_PIXELS, _PROGRESS, _LOCK = "pictures.bin", "progress.json", "lock"
_PIECE_BYTES = 2**26  # in memory at once
_PIECE_PICTURES = 1000
_MAX_PROGRESS_BYTES = 2**28


def cache_folder(cache: Path, paths: Sequence[Path], shape: Shape, rules: DataRecipe) -> Path:
    """The folder in which the pixels of these pictures are, or will be.

    It is another one when a picture has another path, size or time, or when the rules make other pixels of it.
    """
    digest = hashlib.sha256(json.dumps([_FORMAT, shape, rules.resize, rules.background, rules.invert]).encode())
    for path in paths:
        status = path.stat() if path.exists() else None
        known = (0, 0) if status is None else (status.st_size, status.st_mtime_ns)
        digest.update(json.dumps([os.path.abspath(path), *known]).encode())  # a resumed run has an absolute place
    return cache.expanduser() / _FOLDER / digest.hexdigest()[:32]


def pictures_at_once(shape: Shape) -> int:
    """The number of pictures (C, H, W) of which so few are in memory together that they take little of it."""
    return max(1, min(_PIECE_PICTURES, _PIECE_BYTES // prod(shape)))


@dataclass
class PixelFile:
    """A file of uint8 pixels (N, C, H, W) that is written picture by picture.

    Attributes:
        read: the pictures that were read, in order; the file has the pixels of those that could be used.
        skipped: the indices of the others.
    """

    folder: Path
    shape: Shape
    read: int = 0
    skipped: list[int] = field(default_factory=list)
    _waiting: list[bytes] = field(default_factory=list)

    @property
    def path(self) -> Path:
        """The file of the pixels."""
        return self.folder / _PIXELS

    def load(self) -> None:
        """Take over the progress of an earlier process, if the file has all pixels that it tells of."""
        try:
            known = json.loads(read_file(self.folder / _PROGRESS, _MAX_PROGRESS_BYTES))
            read, skipped = int(known["read"]), [int(index) for index in known["skipped"]]
            is_whole = self.path.stat().st_size >= (read - len(skipped)) * prod(self.shape)
        except (OSError, ValueError, KeyError, TypeError):
            return
        if is_whole:
            self.read, self.skipped = read, skipped

    def append(self, pixels: Tensor | None) -> None:
        """Add the pixels (C, H, W) of the next picture; None if it cannot be used.

        Raises:
            OSError: the file cannot be written, as on a full disk.
        """
        if pixels is None:
            self.skipped.append(self.read + len(self._waiting))
        self._waiting.append(b"" if pixels is None else pixels.numpy().tobytes())
        if len(self._waiting) >= pictures_at_once(self.shape):
            self.save()

    def save(self) -> None:
        """Write the pixels first and then the progress: a kill or a loss of power leaves what was saved before.

        Raises:
            OSError: the file cannot be written.
        """
        in_file = self.read - sum(index < self.read for index in self.skipped)
        with open(self.path, "ab") as file:
            file.truncate(in_file * prod(self.shape))  # a process that was killed may have left more
            file.write(b"".join(self._waiting))
            file.flush()
            os.fsync(file.fileno())
        self.read += len(self._waiting)
        self._waiting.clear()
        progress = {"read": self.read, "skipped": self.skipped}
        replace_file(self.folder / _PROGRESS, json.dumps(progress).encode())

    def pixels(self) -> Tensor:
        """All pixels (N, C, H, W), mapped into memory."""
        return _mapped(self.path, self.shape)


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Make the folder, and wait until no other process writes into it.

    Raises:
        OSError: the folder cannot be written.
    """
    make_folder(folder.parent)
    make_folder(folder)
    with open(folder / _LOCK, "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)  # the system releases it when the file is closed, or the process ends
        yield


def check_disk(folder: Path, place: object, needed: int) -> None:
    """Check that the disk of a cache has room for pixels.

    Raises:
        BadData: it does not have that many bytes.
    """
    existing = next(parent for parent in (folder, *folder.parents) if parent.exists())
    free = shutil.disk_usage(existing).free
    if needed > free:
        raise BadData(
            place,
            f"its pixels do not fit into the memory, and take {needed:,} bytes in the cache {folder.parent.parent}, "
            f"where {free:,} are free; name another cache with --cache, or fewer pictures",
        )


def rows_of(name: str, pixels: Tensor, indices: Tensor, folder: Path | None, split: str) -> Tensor:
    """The rows of pixels (N, C, H, W) with these indices, in their order; `name` is that of their place, for errors.

    Rows of a mapped file become another mapped file in its `folder`, which is made once; in memory they are copied.

    Raises:
        BadData: the cache has no room for the file.
        OSError: the file cannot be written.
    """
    if folder is None or not len(indices):
        return pixels[indices]
    shape = (pixels.shape[1], pixels.shape[2], pixels.shape[3])
    digest = hashlib.sha256(indices.numpy().tobytes()).hexdigest()
    path = folder / f"{split}-{digest[:32]}.bin"
    with locked(folder):
        if not path.exists():
            check_disk(folder, name, len(indices) * prod(shape))
            partial = path.with_suffix(".partial")
            with open(partial, "wb") as file:
                for some in torch.split(indices, pictures_at_once(shape)):
                    file.write(pixels[some].numpy().tobytes())
                file.flush()
                os.fsync(file.fileno())
            partial.replace(path)
    return _mapped(path, shape)


def _mapped(path: Path, shape: Shape) -> Tensor:
    rows = path.stat().st_size // prod(shape)
    if not rows:
        return torch.empty((0, *shape), dtype=torch.uint8)
    array = np.memmap(path, np.uint8, mode="r", shape=(rows, *shape))
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The given NumPy array is not writable")  # pixels are only read
        return torch.from_numpy(array)
