"""A repository of Hugging Face to a candidate: only the files that are needed are downloaded, into the library's cache.

A download that was stopped goes on where it ended. This module is the only one that knows the library huggingface_hub,
an extra, `latentd[hub]`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import CannotImport, MissingExtra
from ..weights import file_bytes
from .candidate import Candidate, Wishes
from .diffusers_folder import (
    CONFIG,
    INDEXES,
    MAX_CONFIG_BYTES,
    MAX_INDEX_BYTES,
    PARTS,
    describe,
    no_weights,
    read_diffusers,
    weight_file,
    weight_files,
)
from .source_folder import SourceFolder

Downloaded = Callable[[int, int], object]

_WORD = r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,95}"
_REFERENCE = re.compile(
    rf"(?P<id>{_WORD}/{_WORD})(:(?P<part>{_WORD}(/{_WORD}){{0,4}}))?(@(?P<revision>{_WORD}(/{_WORD}){{0,4}}))?"
)
_REMEDY = "Check the name, as in owner/name:subfolder@revision, and the network; what was downloaded stays in the cache"


def names_repository(source: str) -> bool:
    """Whether a text has the form owner/name, owner/name:subfolder or owner/name@revision."""
    return _REFERENCE.fullmatch(source) is not None


def read_repository(source: str, wishes: Wishes, downloaded: Downloaded) -> Candidate:
    """The autoencoder of a repository; `downloaded` is told the bytes of the weights that are there, and of all.

    Raises:
        CannotImport: the repository cannot be read, does not hold a model of a known class, or is not sound.
        MissingExtra: a library is not installed.
    """
    repository = _open(source)
    part = repository.part_with_config()
    folder = SourceFolder(repository.download(part, CONFIG, MAX_CONFIG_BYTES), part, repository.title)
    model = describe(folder, wishes)
    names = repository.names(part)
    file = weight_file(names.__contains__)
    if file is None:
        raise no_weights(folder, names)
    if file in INDEXES:
        repository.download(part, file, MAX_INDEX_BYTES)
    _, most = file_bytes(model.network.state_dict())
    repository.download_all(part, weight_files(folder, file), most, downloaded)
    stated = wishes._replace(licence=wishes.licence or repository.licence)
    fresh = SourceFolder(folder.path, part, repository.title)  # `folder` has noted its files already
    return read_diffusers(fresh, stated, "hugging face", repository.place(part))


@dataclass(frozen=True)
class _Repository:
    """The files of a repository at one commit, with their sizes."""

    source: str
    id: str
    part: str | None
    commit: str
    licence: str | None
    sizes: dict[str, int]

    @property
    def title(self) -> str:
        return self.id.partition("/")[2]

    def place(self, part: str) -> str:
        """The origin for the card."""
        return f"{self.id}{':' if part else ''}{part}@{self.commit}"

    def part_with_config(self) -> str:
        """The subfolder with the autoencoder: the one that is named, else the first of the usual ones."""
        parts = PARTS if self.part is None else (self.part,)
        found = next((part for part in parts if _path(part, CONFIG) in self.sizes), None)
        if found is None:
            reason = f"it has no {' or '.join(_path(part, CONFIG) for part in parts)}"
            raise CannotImport(self.source, reason, remedy="Name a repository of diffusers, or its subfolder")
        return found

    def names(self, part: str) -> set[str]:
        """The names of the files in a subfolder."""
        return {path.rpartition("/")[2] for path in self.sizes if path.rpartition("/")[0] == part}

    def download_all(self, part: str, names: list[str], at_most: int, downloaded: Downloaded) -> None:
        """Download files that have at most `at_most` bytes together."""
        total = sum(self.sizes.get(_path(part, name), 0) for name in names)
        if total > at_most:
            reason = f"its weights have {total:,} bytes, but the network of its {CONFIG} has at most {at_most:,}"
            raise CannotImport(self.source, reason, remedy="Name another repository")
        there = 0

        def more(count: int) -> None:
            nonlocal there
            there += count
            downloaded(there, total)

        for name in names:
            self.download(part, name, at_most, more)

    def download(self, part: str, name: str, at_most: int, more: Callable[[int], object] = lambda _: None) -> Path:
        """Download a file into the cache, and return the folder of the commit there."""
        path = _path(part, name)
        if self.sizes.get(path, 0) > at_most:
            reason = f"{path} has {self.sizes[path]:,} bytes, but may have {at_most:,}"
            raise CannotImport(self.source, reason, remedy="Name another repository")
        hub = _library()

        class Bar(hub.utils.tqdm):  # type: ignore[misc, name-defined]  # the library is an extra
            """The library's progress bar, which shows nothing and reports the bytes."""

            def __init__(self, *arguments: Any, **options: Any) -> None:
                super().__init__(*arguments, **{**options, "disable": True})
                more(int(options.get("initial") or 0))  # bytes of a download that was stopped

            def update(self, n: float | None = 1) -> None:
                more(int(n or 0))

        with _translated(self.source):
            file = hub.hf_hub_download(self.id, path, revision=self.commit, tqdm_class=Bar)
        return Path(file).parents[path.count("/")]


def _open(source: str) -> _Repository:
    """The repository that a text names, at the newest commit or the revision in the text."""
    match = _REFERENCE.fullmatch(source)
    if match is None:
        raise CannotImport(source, "it is not the name of a repository", remedy=_REMEDY)
    hub = _library()
    with _translated(source):
        info = hub.HfApi().model_info(match["id"], revision=match["revision"], files_metadata=True)
    licence = (info.card_data.to_dict() if info.card_data else {}).get("license")
    return _Repository(
        source=source,
        id=match["id"],
        part=match["part"],
        commit=str(info.sha),
        licence=licence[:100] if isinstance(licence, str) and licence else None,
        sizes={file.rfilename: file.size or 0 for file in info.siblings or ()},
    )


@contextmanager
def _translated(source: str) -> Iterator[None]:
    try:
        yield
    except Exception as error:  # the library and its client of HTTP raise many kinds of errors
        reason = (str(error).strip() or type(error).__name__).splitlines()[0][:300].rstrip(".")
        raise CannotImport(source, reason, remedy=_REMEDY) from error


def _library() -> Any:
    try:
        import huggingface_hub  # noqa: PLC0415  # an extra
    except ImportError as error:
        raise MissingExtra("An import from Hugging Face", "huggingface_hub", "hub") from error
    return huggingface_hub


def _path(part: str, name: str) -> str:
    return f"{part}/{name}" if part else name
