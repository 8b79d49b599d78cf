"""A run on the disk: what is needed to go on after it was stopped. It is not a version: nobody serves it.

`run.json` says what the run is, `checkpoint.pt` how far it is; the second is replaced in one step after every epoch.
"""

from __future__ import annotations

import io
import os
import shutil
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Any

import torch
from pydantic import ValidationError

from model_store.vae import Record
from model_store.vae.record import validation_messages

from .errors import CannotKeepRun, RunNotFound
from .recipe import Recipe

_RUN = "run.json"
_CHECKPOINT = "checkpoint.pt"

_ELSEWHERE = "Mend that, or name another folder by --runs."


class RunDescription(Record):
    """A run: the recipe, the images, and every flag that decides what `--resume` does, with absolute paths."""

    recipe: Recipe
    data: str | None
    data_sha256: str
    git_commit: str | None
    store: str
    cache: str | None
    device: str
    strict: bool


def begin(runs: Path, description: RunDescription, state: dict[str, Any]) -> Path:
    """Make a folder for a run, named for its model and the time, with its description and its first checkpoint.

    Raises:
        CannotKeepRun: it cannot be written; nothing of it is left.
    """
    try:
        folder = _new_folder(runs, description.recipe.name)
    except OSError as error:
        raise CannotKeepRun(runs, error, _ELSEWHERE) from error
    try:
        write_description(folder, description)
        save(folder, state)
    except BaseException as error:
        shutil.rmtree(folder, ignore_errors=True)
        if isinstance(error, CannotKeepRun):
            raise CannotKeepRun(runs, error.reason, _ELSEWHERE) from error
        raise
    return folder


def write_description(folder: Path, description: RunDescription) -> None:
    """Write or replace the description of a run.

    Raises:
        CannotKeepRun: the folder cannot be written.
    """
    _replace(folder / _RUN, f"{description.model_dump_json(indent=2)}\n".encode())


def describe(folder: Path) -> RunDescription:
    """The description of a run.

    Raises:
        RunNotFound: the folder holds none, or one of another release.
    """
    try:
        return RunDescription.model_validate_json((folder / _RUN).read_bytes())
    except OSError as error:
        raise RunNotFound(folder, error.strerror or error) from error
    except ValidationError as error:
        raise RunNotFound(
            folder, f"{_RUN} is of another release ({validation_messages(error, RunDescription)[0]})"
        ) from error


def save(folder: Path, state: dict[str, Any]) -> None:
    """Replace the checkpoint; a kill or a loss of power at any moment leaves the old one or the new one.

    Raises:
        CannotKeepRun: the folder cannot be written; it has the old checkpoint.
    """
    content = io.BytesIO()
    torch.save(state, content)  # into memory: of a full disk torch would say "unexpected pos 64 vs 0"
    _replace(folder / _CHECKPOINT, content.getbuffer())


def load(folder: Path, device: torch.device) -> dict[str, Any]:
    """The state that was saved last.

    Raises:
        RunNotFound: there is none, or it cannot be read.
    """
    try:
        state: dict[str, Any] = torch.load(folder / _CHECKPOINT, map_location=device, weights_only=True)
    except Exception as error:  # whatever a broken file makes torch raise
        raise RunNotFound(folder, f"{_CHECKPOINT} cannot be read ({error or type(error).__name__})") from error
    return state


def _new_folder(runs: Path, name: str) -> Path:
    runs.mkdir(parents=True, exist_ok=True)
    stem = f"{name}-{datetime.now():%Y%m%d-%H%M%S}"
    taken = [path.name for path in runs.glob(f"{stem}*")]
    folder = runs / (f"{stem}-{len(taken) + 1}" if taken else stem)
    folder.mkdir()
    return folder


def _replace(path: Path, content: bytes | memoryview) -> None:
    partial = path.with_name(f".{path.name}.partial")
    try:
        with partial.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    except OSError as error:
        with suppress(OSError):
            partial.unlink(missing_ok=True)  # half a checkpoint would keep the disk full
        raise CannotKeepRun(path.parent, error) from error
