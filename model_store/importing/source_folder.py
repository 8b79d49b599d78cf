"""SourceFolder: the files of a folder that a stranger may have made, read within bounds."""

from __future__ import annotations

import errno
import hashlib
import os
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from ..card import MAX_LICENCE_CHARACTERS, Source, SourceFile, SourceKind
from ..errors import CannotImport
from ..files import read_file
from ..free_memory import memory_shortage

_LICENCES = tuple(f"{word}{end}" for word in ("LICENSE", "LICENCE") for end in ("", ".txt", ".md"))
_SNAPSHOTS = "snapshots"  # a folder in the cache of Hugging Face; the files in it are links to ../../blobs
_MAX_ENTRIES = 10_000


@dataclass
class SourceFolder:
    """The files of a folder, or of its subfolder `part`. `used` collects the files that were read.

    `title` is the name for people; without it, the name of the folder.
    Links are followed if they stay in the folder. In the cache of Hugging Face they may lead to the blobs beside it.
    """

    path: Path
    part: str = ""
    title: str = ""
    used: list[SourceFile] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.title = self.title or _printable(os.path.basename(os.path.realpath(self.path)))

    def names(self) -> list[str]:
        """The names of the entries, in order.

        Raises:
            CannotImport: the folder cannot be read, or has too many entries.
        """
        try:
            names = sorted(os.listdir(self.path / self.part))
        except OSError as error:
            raise self.refusal(error.strerror or str(error), remedy="Name a folder that you can read") from error
        if len(names) > _MAX_ENTRIES:
            raise self.refusal(f"it has {len(names)} entries", remedy="Name the folder that holds only the model")
        return names

    def has(self, name: str) -> bool:
        """Whether the folder has an entry with that name, of any kind."""
        return os.path.lexists(self.path / self.part / name)

    def size(self, name: str) -> int:
        """The size in bytes that the file claims to have.

        Raises:
            CannotImport: the folder does not have it, or it is a link that leads out of the folder.
        """
        try:
            return self._inside(name).stat().st_size
        except OSError as error:
            raise self._unreadable(name, error) from error

    def read_text(self, name: str, at_most: int) -> bytes:
        """The content of a small file of at most that many bytes.

        Raises:
            CannotImport: it cannot be read, is not a regular file, is larger, or is a link that leads out.
        """
        try:
            content = read_file(self._inside(name), at_most)
        except OSError as error:
            raise self._unreadable(name, error) from error
        self.used.append(
            SourceFile(name=_printable(name), sha256=hashlib.sha256(content).hexdigest(), bytes=len(content))
        )
        return content

    def read_weights(self, name: str, at_most: int) -> bytes:
        """The content of a file of tensors of at most that many bytes; twice its size must be free in memory.

        Raises:
            CannotImport: as for `read_text`, or the memory is too small.
        """
        if shortage := memory_shortage(2 * min(self.size(name), at_most)):  # the content and the tensors made of it
            raise self.refusal(f"{name} {shortage}", remedy="Import it on a machine with more memory")
        return self.read_text(name, at_most)

    def source(self, kind: SourceKind, licence: str | None, place: str | None = None) -> Source:
        """The origin for the card: the files that were read; the licence, else the folder's; the folder's name.

        Raises:
            CannotImport: the licence cannot be read, or is too long for a card.
        """
        return Source(
            kind=kind,
            licence=licence or self._licence(),  # before `used`, which it adds to
            place=place or str(Path(self.title, self.part)),
            files=tuple(self.used),
            read=datetime.now(UTC).replace(microsecond=0),
        )

    def _licence(self) -> str | None:
        """The text of a LICENSE file; None if the folder does not have one.

        Raises:
            CannotImport: it cannot be read, or is too long for a card.
        """
        name = next((name for name in _LICENCES if self.has(name)), None)
        return self.read_text(name, MAX_LICENCE_CHARACTERS).decode(errors="replace") if name else None

    def refusal(self, *reasons: str, remedy: str) -> CannotImport:
        """The error for this folder."""
        return CannotImport(self.path / self.part, *reasons, remedy=remedy)

    def _inside(self, name: str) -> Path:
        """The path of a file, without links.

        Raises:
            OSError: the file does not exist, or is outside the folder.
        """
        path = Path(
            os.path.realpath(self.path / self.part / name, strict=True)
        )  # `resolve` raises RuntimeError for circles
        if not path.is_relative_to(self._border()):
            raise OSError(errno.EPERM, "it leads out of the folder")
        return path

    def _border(self) -> Path:
        """The folder that files may not lead out of: this folder, or the repository in the cache of Hugging Face."""
        here = Path(os.path.realpath(self.path))
        cached = (folder.parents[1] for folder in (here, *here.parents) if folder.parent.name == _SNAPSHOTS)
        return next((repository for repository in cached if repository.name.startswith("models--")), here)

    def _unreadable(self, name: str, error: OSError) -> CannotImport:
        reason = f"{name} cannot be read: {error.strerror or error}"
        return self.refusal(reason, remedy="Put the file itself in its place, or copy the source again")


def _printable(name: str) -> str:
    """The name, also if it is not UTF-8, which JSON cannot hold."""
    return os.fsencode(name).decode(errors="replace")
