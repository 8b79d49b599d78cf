"""A likelihood of binary pixels is for images that are nearly binary."""

from pathlib import Path

import numpy as np
import pytest
import torch

from model_store.vae.pixels import binarise, to_images
from training.__main__ import main
from training.recipe import Recipe, read_recipe
from training.suitability import MAX_NOISE_SHARE, likelihood_warning, noise_share

from .conftest import bars


@pytest.fixture
def greys() -> torch.Tensor:
    """Grey pictures: every value is equally frequent."""
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (200, 1, 8, 8), generator=generator).to(torch.uint8)


def test_share_of_noise_is_the_share_that_binarising_again_changes(greys: torch.Tensor) -> None:
    """Two draws of the same image differ with probability 2p(1 − p), draws of two random images with 2m(1 − m)."""
    generator = torch.Generator().manual_seed(1)
    repeated = greys.repeat(20, 1, 1, 1)
    one, other = (binarise(repeated, torch.rand(repeated.shape, generator=generator)) for _ in range(2))
    mean = to_images(greys).mean()

    expected = (one != other).double().mean() / (2 * mean * (1 - mean))

    assert noise_share(greys) == pytest.approx(expected.item(), abs=0.01)


@pytest.mark.parametrize("pixels", [bars(10), bars(10) * 0, bars(10) * 0 + 255], ids=["bars", "black", "white"])
def test_black_and_white_images_have_no_noise(pixels: torch.Tensor) -> None:
    """Each value is certain."""
    assert noise_share(pixels) == 0


@pytest.mark.parametrize(("side", "most"), [(8, 2048), (512, 64), (8192, 1)])
def test_share_of_noise_reads_few_large_images(side: int, most: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """All training images as float64 could be more than the memory; an image is read however large it is."""
    read: list[int] = []

    def count(pixels: torch.Tensor) -> torch.Tensor:
        read.append(len(pixels))
        return torch.zeros(1)

    monkeypatch.setattr("training.suitability.to_images", count)
    noise_share(torch.zeros(1, 1, 1, 1, dtype=torch.uint8).expand(8192, 1, side, side))

    assert read == [most]


def test_grey_images_have_a_warning_with_the_remedy(recipe: Recipe, recipe_file: Path, greys: torch.Tensor) -> None:
    """The remedy is a flag, with which a run does not warn."""
    warning = likelihood_warning(recipe.model, greys)

    assert noise_share(greys) > MAX_NOISE_SHARE
    assert warning is not None
    remedy = warning.rpartition("--set ")[2].rstrip(".")
    assert likelihood_warning(read_recipe(str(recipe_file), [remedy]).model, greys) is None
    assert likelihood_warning(recipe.model, bars(10)) is None


def test_run_says_so_before_it_trains(
    call: list[str], tmp_path: Path, greys: torch.Tensor, capsys: pytest.CaptureFixture[str]
) -> None:
    """The sentence comes before the first epoch, not after hours."""
    np.save(tmp_path / "greys.npy", greys[:, 0].numpy())

    assert main([*call, "--data", str(tmp_path / "greys.npy"), "--set", "epochs=1"]) == 0

    before, _, _ = capsys.readouterr().out.partition("epoch   1/1")
    assert "Warning: The likelihood bernoulli is for black and white pixels" in before
