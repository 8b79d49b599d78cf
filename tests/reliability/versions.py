"""Versions of a model in every state in which a store can hold them: good ones, and damaged ones of each kind.

Each is made elsewhere and moved into the store in one step, so that the service never sees it half made.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import safetensors.torch
import torch
from torch import Tensor

from model_store import Store

from ..conftest import GREY, make_model

WEIGHTS, CARD = "weights.safetensors", "card.json"
Spoil = Callable[[Path], None]


class Shelf:
    """One model of a store, whose versions are added and removed."""

    def __init__(self, store: Store, name: str, workshop: Path) -> None:
        self._folder = store.root / name
        self._name = name
        self._workshop = Store(workshop)
        self._made = 0

    def add(self, spoil: Spoil) -> int:
        """Make a version, spoil it and add it; return its number, which no earlier version has had."""
        self._made += 1
        version = self._workshop.publish(self._name, make_model(GREY, seed=self._made))
        made = self._workshop.folder(version)
        spoil(made)
        number = 1 + self._made
        os.rename(made, self._folder / str(number))
        return number

    def remove(self, number: int) -> None:
        """Remove a version in one step, as a careful operator does."""
        away = self._folder / f".away-{number}"
        os.rename(self._folder / str(number), away)
        shutil.rmtree(away)

    def newest(self) -> int:
        """The highest version number."""
        return max(self.numbers())

    def numbers(self) -> list[int]:
        """The version numbers in the store."""
        return sorted(int(folder.name) for folder in self._folder.iterdir() if folder.name.isdecimal())


def unspoilt(folder: Path) -> None:
    """Leave the version good."""


def truncated(folder: Path) -> None:
    """Cut off the last bytes of the weights."""
    _write(folder / WEIGHTS, (folder / WEIGHTS).read_bytes()[:-1_000])


def wrongly_hashed(folder: Path) -> None:
    """Flip one bit of the weights."""
    content = bytearray((folder / WEIGHTS).read_bytes())
    content[-1] ^= 1
    _write(folder / WEIGHTS, bytes(content))


def wrongly_shaped(folder: Path) -> None:
    """Store a tensor of another network, with the right hash in the card."""
    _change(folder, lambda state: state.update({"decoder.output.bias": torch.zeros(65)}))


def not_finite(folder: Path) -> None:
    """Store weights that are not numbers, with the right hash in the card."""
    _change(folder, lambda state: state["decoder.output.bias"].fill_(torch.nan))


def without_card(folder: Path) -> None:
    """Remove the card."""
    (folder / CARD).unlink()


def half_written(folder: Path) -> None:
    """Remove the weights, as in a version that is still being copied."""
    (folder / WEIGHTS).unlink()


def linked(folder: Path) -> None:
    """Move the weights elsewhere, and leave a link to them."""
    elsewhere = folder.parent / f"elsewhere-{folder.name}"
    (folder / WEIGHTS).rename(elsewhere)
    (folder / WEIGHTS).symlink_to(elsewhere)


def piped(folder: Path) -> None:
    """Put a pipe in place of the weights, which never ends."""
    (folder / WEIGHTS).unlink()
    os.mkfifo(folder / WEIGHTS)


SPOILT: tuple[Spoil, ...] = (
    truncated, wrongly_hashed, wrongly_shaped, not_finite, without_card, half_written, linked, piped,
)  # fmt: skip


def _write(file: Path, content: bytes) -> None:
    file.chmod(0o644)
    file.write_bytes(content)


def _change(folder: Path, change: Callable[[dict[str, Tensor]], object]) -> None:
    state = safetensors.torch.load((folder / WEIGHTS).read_bytes())
    change(state)
    content = safetensors.torch.save(state)
    _write(folder / WEIGHTS, content)
    card = json.loads((folder / CARD).read_text())
    card["weights"] |= {"sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content)}
    _write(folder / CARD, json.dumps(card).encode())
