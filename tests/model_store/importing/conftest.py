"""Sources of tests: small models with random weights, in the files in which other programs keep them."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from model_store.__main__ import main
from model_store.taesd import TAESD, TAESDConfig

from ..library_models import library_model

Run = Callable[..., tuple[int, str]]


def tiny(channels: int = 4, *, has_middle_norm: bool = False, seed: int = 0) -> TAESD:
    """A tiny autoencoder with random float16 weights."""
    torch.manual_seed(seed)
    config = TAESDConfig(
        image_shape=(3, None, None),
        latent_shape=(channels, None, None),
        latent_space="any",
        has_middle_norm=has_middle_norm,
    )
    return TAESD(config).half()


def save_pair(folder: Path, model: TAESD, stem: str = "taesd") -> Path:
    """Write the two files in which the weights of a tiny autoencoder are published, and their licence."""
    folder.mkdir(exist_ok=True)
    torch.save(dict(model.encoder.state_dict()), folder / f"{stem}_encoder.pth")
    torch.save(dict(model.decoder.state_dict()), folder / f"{stem}_decoder.pth")
    (folder / "LICENSE").write_text("MIT License\n\nPermission is granted\n")
    return folder


@pytest.fixture
def pair(tmp_path: Path) -> Path:
    """A folder with a tiny autoencoder for the latents of Stable Diffusion 1."""
    return save_pair(tmp_path / "weights", tiny())


@pytest.fixture(scope="session")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with one small picture, on which models are tried in a moment."""
    folder = tmp_path_factory.mktemp("pictures")
    pixels = np.random.default_rng(0).integers(0, 256, (40, 35, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(folder / "small.png")
    return folder


@pytest.fixture
def run_import(tmp_path: Path, pictures: Path, capsys: pytest.CaptureFixture[str]) -> Run:
    """Run the command with the small picture; gives its exit status and its output without line breaks."""

    def run(source: object, *arguments: str, name: str = "new") -> tuple[int, str]:
        root = str(tmp_path / "store")
        status = main(["import", str(source), "--name", name, "--store", root, "--pictures", str(pictures), *arguments])
        return status, capsys.readouterr().out

    return run


def published(root: Path) -> list[str]:
    """The paths of all files and folders in a store, also of hidden ones."""
    return sorted(str(path.relative_to(root)) for path in root.rglob("*"))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder that the library diffusers has written, with a small AutoencoderKL."""
    library_model("AutoencoderKL").save_pretrained(tmp_path / "saved")
    return tmp_path / "saved"


def change_config(folder: Path, **settings: object) -> None:
    """Change settings of a folder by hand."""
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **settings}))


def sparse(path: Path) -> None:
    """A file that claims 100 GB and takes none."""
    with path.open("wb") as file:
        file.truncate(100_000_000_000)
