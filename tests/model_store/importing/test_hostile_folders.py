"""Folders made to do harm: each is refused with its reason, and nothing is in the store."""

import json
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch
from torch import Tensor

from .conftest import Run, change_config, sparse

WEIGHTS = "diffusion_pytorch_model.safetensors"
INDEX = f"{WEIGHTS}.index.json"
State = dict[str, Tensor]
CONV = "encoder.conv_in.weight"


def change_state(folder: Path, change: Callable[[State], object]) -> None:
    """Change the tensors of a folder."""
    state = safetensors.torch.load((folder / WEIGHTS).read_bytes())
    change(state)
    safetensors.torch.save_file(state, folder / WEIGHTS)


def replace(folder: Path, name: str, make: Callable[[Path], object]) -> None:
    """Put something else in the place of a file."""
    (folder / name).unlink()
    make(folder / name)


def lead_out(path: Path) -> None:
    """A link to a file outside the folder."""
    target = path.parent.parent / f"secret-{path.name}"
    target.write_text("{}")
    path.symlink_to(target)


def write_index(folder: Path, *names: object) -> None:
    """An index of shards in the place of the weights."""
    (folder / WEIGHTS).rename(folder / "moved.safetensors")
    places = {f"tensor {number}": name for number, name in enumerate(names)}
    (folder / INDEX).write_text(json.dumps({"weight_map": places}))


CASES: dict[str, tuple[Callable[[Path], object], str]] = {
    "unknown class": (lambda folder: change_config(folder, _class_name="UNet2DConditionModel"), "its class in config"),
    "class of Python": (lambda folder: change_config(folder, _class_name="os.system"), "its class in config.json is"),
    "no class": (lambda folder: change_config(folder, _class_name=None), "its class in config.json is None"),
    "class is a list": (lambda folder: change_config(folder, _class_name=["AutoencoderKL"]), "its class in config"),
    "other class": (lambda folder: change_config(folder, _class_name="AutoencoderTiny"), "is not known"),
    "huge width": (lambda folder: change_config(folder, block_out_channels=[10**9] * 4), "must be at most 4096"),
    "many layers": (lambda folder: change_config(folder, layers_per_block=10**9), "must be at most 16"),
    "many channels": (lambda folder: change_config(folder, latent_channels=10**9), "must be at most 4096"),
    "large but allowed": (
        lambda folder: change_config(folder, block_out_channels=[4096] * 4),
        "is (8,), expected (4096,)",
    ),
    "factor is a text": (lambda folder: change_config(folder, scaling_factor="1"), "scaling.factor must be a number"),
    "mean is huge": (
        lambda folder: change_config(folder, latents_mean=[1e300] * 4, latents_std=[1] * 4),
        "must be at most 10000",
    ),
    "deviation is tiny": (
        lambda folder: change_config(folder, latents_mean=[0] * 4, latents_std=[1e-300] * 4),
        "must be at least 0.0001",
    ),
    "factor is negative": (
        lambda folder: change_config(folder, scaling_factor=-1),
        "scaling.factor must be at least 0.0001",
    ),
    "factor is NaN": (lambda folder: change_config(folder, scaling_factor=float("nan")), "scaling.factor"),
    "mean without deviation": (lambda folder: change_config(folder, latents_mean=[0.0] * 4), "belong together"),
    "means of other channels": (
        lambda folder: change_config(folder, latents_mean=[0.0], latents_std=[1.0]),
        "scaling.mean has 1 numbers",
    ),
    "upcast is a text": (
        lambda folder: change_config(folder, force_upcast="yes"),
        "force_upcast must be true or false",
    ),
    "unknown argument": (lambda folder: change_config(folder, evil=1), "evil is not known"),
    "half a character": (lambda folder: change_config(folder, act_fn="\ud800"), "it is not JSON"),
    "config is text": (lambda folder: (folder / "config.json").write_text("hello"), "config.json is not JSON"),
    "config is a list": (lambda folder: (folder / "config.json").write_text("[]"), "is not an object"),
    "config is deep": (lambda folder: (folder / "config.json").write_text('{"a":' * 9_999), "config.json is not JSON"),
    "config is large": (lambda folder: (folder / "config.json").write_text(" " * 70_000), "it is larger than 65536"),
    "config is a pipe": (lambda folder: replace(folder, "config.json", os.mkfifo), "it is not a regular file"),
    "config is a folder": (lambda folder: replace(folder, "config.json", Path.mkdir), "it is not a regular file"),
    "config leads out": (lambda folder: replace(folder, "config.json", lead_out), "it leads out of the folder"),
    "config leads nowhere": (
        lambda folder: replace(folder, "config.json", lambda path: path.symlink_to("nowhere")),
        "config.json cannot be read: No such file",
    ),
    "config is a circle": (
        lambda folder: replace(folder, "config.json", lambda path: path.symlink_to("config.json")),
        "config.json cannot be read",
    ),
    "weights lead out": (lambda folder: replace(folder, WEIGHTS, lead_out), "it leads out of the folder"),
    "weights are a pipe": (lambda folder: replace(folder, WEIGHTS, os.mkfifo), "it is not a regular file"),
    "weights claim 100 GB": (lambda folder: replace(folder, WEIGHTS, sparse), "it is larger than"),
    "weights are a device": (
        lambda folder: replace(folder, WEIGHTS, lambda path: path.symlink_to("/dev/zero")),
        "it leads out of the folder",
    ),
    "weights are missing": (lambda folder: (folder / WEIGHTS).unlink(), f"it has no {WEIGHTS}"),
    "weights are text": (lambda folder: (folder / WEIGHTS).write_text("hello"), "they are not safetensors"),
    "weights are cut": (
        lambda folder: (folder / WEIGHTS).write_bytes((folder / WEIGHTS).read_bytes()[:-9]),
        "they are not safetensors",
    ),
    "weights are a pickle": (
        lambda folder: (folder / WEIGHTS).rename(folder / "diffusion_pytorch_model.bin"),
        "save_pretrained(folder, safe_serialization=True)",
    ),
    "missing tensor": (lambda folder: change_state(folder, lambda state: state.pop(CONV)), f"missing {CONV}"),
    "extra tensor": (
        lambda folder: change_state(folder, lambda state: state.update(evil=torch.ones(1))),
        "unexpected evil",
    ),
    "misshapen tensor": (
        lambda folder: change_state(folder, lambda state: state.update({CONV: torch.ones(8, 3, 1, 1)})),
        f"{CONV} is (8, 3, 1, 1), expected (8, 3, 3, 3)",
    ),
    "tensor with NaN": (
        lambda folder: change_state(folder, lambda state: state[CONV].fill_(np.nan)),
        f"{CONV} has values that are not finite",
    ),
    "whole numbers": (
        lambda folder: change_state(folder, lambda state: state.update({CONV: torch.ones(8, 3, 3, 3).int()})),
        f"{CONV} is torch.int32",
    ),
    "several precisions": (
        lambda folder: change_state(folder, lambda state: state.update({CONV: state[CONV].bfloat16()})),
        "they are of several types",
    ),
    "shard outside": (lambda folder: write_index(folder, f"../{WEIGHTS}"), "which is not a .safetensors file in the"),
    "shard by its path": (lambda folder: write_index(folder, "/etc/passwd"), "'/etc/passwd', which is not"),
    "shard is a number": (lambda folder: write_index(folder, 1), "names 1, which is not"),
    "shard is missing": (lambda folder: write_index(folder, "a.safetensors"), "a.safetensors cannot be read: No such"),
    "many shards": (lambda folder: write_index(folder, *(f"{n}.safetensors" for n in range(200))), "names 200 files"),
    "no shards": (write_index, "has no weight_map"),
    "licence leads out": (lambda folder: lead_out(folder / "LICENSE"), "LICENSE cannot be read: it leads out"),
    "licence is large": (lambda folder: (folder / "LICENSE").write_text("x" * 60_000), "it is larger than 50000"),
}


@pytest.mark.parametrize("case", CASES)
def test_hostile_folder_is_refused(case: str, folder: Path, run_import: Run, tmp_path: Path) -> None:
    """The command says why in one line and publishes nothing."""
    change, reason = CASES[case]
    change(folder)

    status, text = run_import(folder)

    assert status == 1
    assert reason in text
    assert text.startswith("Cannot import ")
    assert text.count("\n") == 1
    assert len(text) < 1200
    assert not (tmp_path / "store").exists()


def test_memory_is_looked_at_before_weights_are_read(
    folder: Path, run_import: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file that does not fit is refused and does not end the process."""
    monkeypatch.setattr("model_store.free_memory.free_memory", lambda: 1000)

    status, text = run_import(folder)

    assert (status, "of memory, but only 1,000 are free" in text) == (1, True)


def test_folder_with_many_files_is_refused(folder: Path, run_import: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """A list of a million names would be a long error."""
    monkeypatch.setattr("model_store.importing.source_folder._MAX_ENTRIES", 0)
    (folder / WEIGHTS).unlink()

    status, text = run_import(folder)

    assert (status, "it has 1 entries" in text) == (1, True)
