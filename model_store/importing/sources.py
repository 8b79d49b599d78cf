"""The kinds of sources: which one a text names, and the function that reads it."""

from __future__ import annotations

from pathlib import Path

from ..errors import CannotImport
from .candidate import Candidate, Wishes
from .diffusers_folder import find_folder, read_diffusers
from .hub import Downloaded, names_repository, read_repository
from .taesd_files import holds_taesd_files, read_taesd_files

_KINDS = (
    "Name a folder of diffusers (with config.json, or a pipeline with the subfolder vae), a folder with a pair of "
    "TAESD files (*encoder*.pth and *decoder*.pth), or a repository of Hugging Face (owner/name)"
)


def read_source(source: str, wishes: Wishes, downloaded: Downloaded = lambda *_: None) -> Candidate:
    """The model in a folder, a file or a repository; a path that exists is not the name of a repository.

    Raises:
        CannotImport: the source is of no known kind, or its files are not sound.
        MissingExtra: a library is not installed.
    """
    path = Path(source)
    try:
        if folder := find_folder(path):
            return read_diffusers(folder, wishes)
        if path.exists() and holds_taesd_files(path):
            return read_taesd_files(path, wishes)
        is_repository = not path.exists() and names_repository(source)
    except (OSError, ValueError) as error:  # ValueError: a zero byte in the path
        raise CannotImport(source, str(error), remedy=_KINDS) from error
    if is_repository:
        return read_repository(source, wishes, downloaded)
    raise CannotImport(source, "there is no model of a known kind", remedy=_KINDS)
