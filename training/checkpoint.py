"""A run on the disk: what is needed to go on after it was stopped. It is not a version: nobody serves it.

`run.json` says what the run is, `checkpoint.pt` how far it is; the second is replaced in one step after every epoch.
"""

from __future__ import annotations

import os
from datetime import datetime
from pathlib import Path
from typing import Any

import torch
from pydantic import ValidationError

from model_store.vae import Record
from model_store.vae.record import problems

from .errors import RunNotFound
from .recipe import Recipe

_RUN = "run.json"
_CHECKPOINT = "checkpoint.pt"


class RunDescription(Record):
    """What a run does, and with what."""

    recipe: Recipe
    data: str | None
    data_sha256: str
    git_commit: str | None


def begin(runs: Path, description: RunDescription) -> Path:
    """A new folder for a run, named for its model and the time, with its `run.json`."""
    runs.mkdir(parents=True, exist_ok=True)
    stem = f"{description.recipe.name}-{datetime.now():%Y%m%d-%H%M%S}"
    taken = [path.name for path in runs.glob(f"{stem}*")]
    folder = runs / (f"{stem}-{len(taken) + 1}" if taken else stem)
    folder.mkdir()
    (folder / _RUN).write_text(description.model_dump_json(indent=2) + "\n", encoding="utf-8")
    return folder


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
        raise RunNotFound(folder, f"{_RUN} is of another release ({problems(error)[0]})") from error


def save(folder: Path, state: dict[str, Any]) -> None:
    """Replace the checkpoint; a kill or a loss of power at any moment leaves the old one or the new one."""
    partial = folder / f".{_CHECKPOINT}.partial"
    with partial.open("wb") as file:
        torch.save(state, file)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(folder / _CHECKPOINT)


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
