"""The kinds of sources: which one a text names, and the function that reads it."""

from __future__ import annotations

from pathlib import Path

from ..errors import CannotImport
from .candidate import Candidate, Wishes
from .diffusers_folder import holds_diffusers, read_diffusers
from .taesd_files import holds_taesd_files, read_taesd_files

_KINDS = (
    "Name a folder of diffusers (with config.json, or a pipeline with the subfolder vae), or a folder with a pair of "
    "TAESD files (*encoder*.pth and *decoder*.pth)"
)


def read_source(source: str, wishes: Wishes) -> Candidate:
    """The model in a folder or file.

    Raises:
        CannotImport: the source is of no known kind, or its files are not sound.
        MissingExtra: the library of the model is not installed.
    """
    path = Path(source)
    try:
        if holds_diffusers(path):
            return read_diffusers(path, wishes)
        if path.exists() and holds_taesd_files(path):
            return read_taesd_files(path, wishes)
    except OSError as error:
        raise CannotImport(source, error.strerror or str(error), remedy=_KINDS) from error
    raise CannotImport(source, "there is no model of a known kind", remedy=_KINDS)
