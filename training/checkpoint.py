"""A run on the disk: what `--resume` needs. It is not a stored model, and the service never reads it.

`run.json` describes the run; `checkpoint.pt` holds its state and is replaced after every epoch. A kill or a loss of
power at any moment leaves the old file or the new one.
"""

from __future__ import annotations

import io
import os
import shutil
import zipfile
from contextlib import ExitStack
from datetime import datetime
from pathlib import Path
from typing import Any, BinaryIO

import torch
from pydantic import ValidationError

from model_store.files import FOLDER_MODE, make_folder, open_file, read_file, replace_file
from model_store.free_memory import memory_shortage
from model_store.vae import Record
from model_store.vae.record import validation_messages

from .errors import CannotKeepRun, RunNotFound
from .recipe import Recipe

_RUN = "run.json"
_CHECKPOINT = "checkpoint.pt"
_MAX_RUN_BYTES = 2**20


class RunDescription(Record):
    """The recipe, the images, and every flag that decides what `--resume` does; paths are absolute."""

    id: str | None = None  # random; None in runs of older releases
    recipe: Recipe
    data: str | None
    data_sha256: str
    git_commit: str | None
    store: str
    cache: str | None
    device: str
    strict: bool
    threads: int | None = None
    hours: float | None = None  # of all epochs together


def begin(runs: Path, description: RunDescription, state: dict[str, Any]) -> Path:
    """Make a folder for a run, named for its model and the time, with its description and its first checkpoint.

    Raises:
        CannotKeepRun: the folder cannot be written; it is removed again.
    """
    try:
        make_folder(runs)
        stem = f"{description.recipe.name}-{datetime.now():%Y%m%d-%H%M%S}"
        taken = len(list(runs.glob(f"{stem}*")))
        folder = runs / (f"{stem}-{taken + 1}" if taken else stem)
        folder.mkdir()
        folder.chmod(FOLDER_MODE)
        with ExitStack() as undo:
            undo.callback(shutil.rmtree, folder, ignore_errors=True)
            write_description(folder, description)
            save(folder, state)
            undo.pop_all()
    except (OSError, CannotKeepRun) as error:
        reason = error.reason if isinstance(error, CannotKeepRun) else error
        raise CannotKeepRun(runs, reason, "Fix this, or name another folder with --runs.") from error
    return folder


def write_description(folder: Path, description: RunDescription) -> None:
    """Write or replace the description of a run.

    Raises:
        CannotKeepRun: the folder cannot be written.
    """
    _replace(folder / _RUN, f"{description.model_dump_json(indent=2)}\n".encode())


def describe(folder: Path) -> RunDescription:
    """Read the description of a run.

    Raises:
        RunNotFound: the folder has no description, or one of another release.
    """
    try:
        return RunDescription.model_validate_json(read_file(folder / _RUN, _MAX_RUN_BYTES, follow_links=True))
    except OSError as error:
        raise RunNotFound(folder, f"{_RUN}: {error.strerror or error}") from error
    except ValidationError as error:
        raise RunNotFound(
            folder, f"{_RUN} is of another release ({validation_messages(error, RunDescription)[0]})"
        ) from error


def save(folder: Path, state: dict[str, Any]) -> None:
    """Replace the checkpoint.

    Raises:
        CannotKeepRun: the folder cannot be written; it has the old checkpoint.
    """
    content = io.BytesIO()
    torch.save(state, content)  # into memory first: of a full disk torch would say "unexpected pos 64 vs 0"
    _replace(folder / _CHECKPOINT, content.getbuffer())


def load(folder: Path, device: torch.device) -> dict[str, Any]:
    """Read the state that was saved last.

    Raises:
        RunNotFound: there is no checkpoint, or it cannot be read.
    """
    try:
        with open_file(folder / _CHECKPOINT) as file:
            _check_archive(file)
            state: dict[str, Any] = torch.load(file, map_location=device, weights_only=True)
    except Exception as error:  # torch raises many kinds of errors for broken files
        raise RunNotFound(folder, f"{_CHECKPOINT} cannot be read ({error or type(error).__name__})") from error
    return state


def _check_archive(file: BinaryIO) -> None:
    """Refuse an archive that does not fit into the memory, or unpacks to more than the file has: torch packs nothing.

    Raises:
        ValueError, BadZipFile: the archive was not written by torch, or does not fit into the memory.
    """
    with zipfile.ZipFile(file) as archive:
        unpacked = sum(member.file_size for member in archive.infolist())
    if unpacked > file.seek(0, os.SEEK_END):
        raise ValueError("its parts are compressed, as torch would never write them")
    if shortage := memory_shortage(2 * unpacked):  # the content, and the run that takes it over
        raise ValueError(f"that {shortage}")
    file.seek(0)


def _replace(path: Path, content: bytes | memoryview) -> None:
    try:
        replace_file(path, content)
    except OSError as error:
        raise CannotKeepRun(path.parent, error) from error
