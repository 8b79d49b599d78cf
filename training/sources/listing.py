"""Which files of a folder are pictures, and what is left out of it and why. It opens no file."""

import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

_GENERATED = frozenset({"@eaDir", "__MACOSX", "#recycle", "$RECYCLE.BIN", "lost+found"})
_NAMED = 8


@dataclass
class Listing:
    """The pictures of a folder in the order of their paths, and what was left out."""

    pictures: list[Path] = field(default_factory=list)
    others: Counter[str] = field(default_factory=Counter)
    hidden: list[str] = field(default_factory=list)
    known_folders: list[str] = field(default_factory=list)
    unreadable: list[OSError] = field(default_factory=list)

    def left_out(self) -> Iterator[str]:
        """A line for each reason to leave something out."""
        if self.others:
            kinds = _first(f"{count:,} {suffix}" for suffix, count in self.others.most_common())
            yield f"{_count(self.others.total(), 'file')} without the suffix of a picture that can be read: {kinds}"
        if self.hidden:
            yield f"{len(self.hidden):,} hidden or generated: {_first(sorted(self.hidden))}"
        if self.known_folders:
            named = _first(self.known_folders)
            yield f"{_count(len(self.known_folders), 'folder')} that a link leads to a second time: {named}"
        for error in self.unreadable:
            yield f"a folder that cannot be read: {error.filename} ({error.strerror})"


def is_hidden(name: str) -> bool:
    """Whether a file or folder is hidden, or made by a system for itself: thumbnails, resource forks, bins."""
    return name.startswith(".") or name in _GENERATED


def list_pictures(folder: Path, suffixes: frozenset[str]) -> Listing:
    """The pictures of a folder at any depth. Links to folders are followed, but no folder is read twice."""
    listing = Listing()
    root = folder.resolve()
    seen = {_identity(place) for place in (root, *root.parents)}
    for place, folders, files in os.walk(folder, followlinks=True, onerror=listing.unreadable.append):
        listing.hidden += (name for name in (*folders, *files) if is_hidden(name))
        to_enter = []
        for name in sorted(name for name in folders if not is_hidden(name)):
            identity = _identity(path := Path(place, name))
            if identity in seen:
                listing.known_folders.append(str(path))
            else:
                seen.add(identity)
                to_enter.append(name)
        folders[:] = to_enter
        for path in (Path(place, name) for name in files if not is_hidden(name)):
            if path.suffix.lower() in suffixes:
                listing.pictures.append(path)
            else:
                listing.others[path.suffix.lower() or "without a suffix"] += 1
    listing.pictures.sort()
    return listing


def _identity(folder: Path) -> tuple[int, int]:
    status = folder.stat()
    return status.st_dev, status.st_ino


def _first(texts: Iterator[str] | list[str]) -> str:
    named = list(texts)
    rest = f" and {len(named) - _NAMED:,} more" if len(named) > _NAMED else ""
    return ", ".join(named[:_NAMED]) + rest


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"
