"""Small recipes and small data."""

import gzip
import struct
from pathlib import Path

import pytest
import torch
from torch import Tensor

from training.recipe import Recipe, read_recipe

SMALL = """
name = "bars"
seed = 3
epochs = 3

[data]
source = "mnist"

[model]
image_shape = [1, 8, 8]
latent_shape = [2]

[model.network]
kind = "mlp"
hidden = [16]

[optimiser]
batch_images = 32
learning_rate = 1e-2
"""


@pytest.fixture
def recipe_file(tmp_path: Path) -> Path:
    """A recipe that trains in a blink."""
    path = tmp_path / "bars.toml"
    path.write_text(SMALL)
    return path


@pytest.fixture
def recipe(recipe_file: Path) -> Recipe:
    """The same, read."""
    return read_recipe(str(recipe_file))


def bars(count: int, side: int = 8) -> Tensor:
    """Pictures of one white row or column each, uint8 (count, 1, side, side): a data set that can be learned."""
    pixels = torch.zeros(count, 1, side, side, dtype=torch.uint8)
    for number, picture in enumerate(pixels):
        position = number // 2 % side
        picture[(0, position) if number % 2 else (0, slice(None), position)] = 255
    return pixels


def idx_bytes(pixels: Tensor) -> bytes:
    """An IDX file of uint8 pixels (N, 1, H, W)."""
    count, _, height, width = pixels.shape
    return struct.pack(">4I", 0x803, count, height, width) + pixels.numpy().tobytes()


@pytest.fixture
def idx_folder(tmp_path: Path) -> Path:
    """Bars as the MNIST family's files, one plain and one packed."""
    folder = tmp_path / "idx"
    folder.mkdir()
    (folder / "train-images-idx3-ubyte").write_bytes(idx_bytes(bars(400)))
    (folder / "t10k-images-idx3-ubyte.gz").write_bytes(gzip.compress(idx_bytes(bars(40))))
    return folder


@pytest.fixture
def call(recipe_file: Path, idx_folder: Path, tmp_path: Path) -> list[str]:
    """The arguments of a run that keeps everything in the test's own folder, whose names have a space."""
    store, runs = str(tmp_path / "the store"), str(tmp_path / "the runs")
    return [str(recipe_file), "--data", str(idx_folder), "--store", store, "--runs", runs]
