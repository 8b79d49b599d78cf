"""The ideas of docs/theory.md on real digits and with the shipped model."""

from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from model_store import VAE, Store
from model_store.vae.pixels import to_images
from training.evaluate.bounds import score
from training.recipe import DataRecipe
from training.sources import read

DATA = Path(__file__).parent.parent.parent / "shared" / "data"
DIGITS = 1000
PIECE = 5

pytestmark = pytest.mark.skipif(not DATA.is_dir(), reason="there are no real data sets beside the checkout")


@pytest.fixture(scope="module")
def model() -> VAE:
    """mnist@1."""
    store = Store()
    return store.load(store.resolve("mnist@1")).vae


def first(name: str) -> Tensor:
    """The first thousand test images of a data set, uint8 (1000, 1, 28, 28)."""
    test = read(DATA / name, (1, 28, 28), DataRecipe(), strict=False).test
    assert test is not None
    return test[:DIGITS]


@pytest.fixture(scope="module")
def digits() -> Tensor:
    """Real test digits."""
    return first("mnist")


def erased(pixels: Tensor) -> Tensor:
    """(b): each picture without the 5×5 piece that holds most of its ink."""
    ink = F.avg_pool2d(to_images(pixels).square(), PIECE, stride=1)
    rows, columns = ink.flatten(1).argmax(1) // ink.shape[3], ink.flatten(1).argmax(1) % ink.shape[3]
    copies = pixels.clone()
    for copy, row, column in zip(copies, rows, columns, strict=True):
        copy[:, row : row + PIECE, column : column + PIECE] = 0
    return copies


def shifted(pixels: Tensor) -> Tensor:
    """(c): each picture one pixel further to the right."""
    return torch.roll(pixels, 1, 3)


def elbo(model: VAE, pixels: Tensor) -> Tensor:
    """The bound of each image in nats, one draw, seed 0."""
    return score(model, pixels).elbo_nats


def share(preferred: Tensor) -> float:
    """The fraction of images that are preferred."""
    return preferred.double().mean().item()


def auroc(usual: Tensor, strange: Tensor) -> float:
    """The probability that a usual image scores above a strange one (Mann and Whitney 1947)."""
    return share(usual.unsqueeze(1) > strange.unsqueeze(0))


def test_pixels_prefer_the_erased_copy_and_the_model_the_shifted_one(model: VAE, digits: Tensor) -> None:
    """Idea 2: measured, 96 % of digits have the smaller squared error erased, 81 % the better ELBO shifted.

    The bars are six standard errors of a share among 1000 below that.
    """
    errors = [
        (to_images(copy) - to_images(digits)).square().flatten(1).mean(1) for copy in (erased(digits), shifted(digits))
    ]

    assert share(errors[0] < errors[1]) > 0.92
    assert share(elbo(model, shifted(digits)) > elbo(model, erased(digits))) > 0.73


@pytest.mark.parametrize(("strange", "least"), [("fashion", 0.999), ("noise", 0.999), ("erased", 0.68)])
def test_digits_score_above_what_is_none(model: VAE, digits: Tensor, strange: str, least: float) -> None:
    """Measured AUROC: Fashion-MNIST 0.99997, noise 1, digits without a piece 0.743."""
    others = {
        "fashion": lambda: first("fashion_mnist"),
        "noise": lambda: torch.randint(
            0, 256, digits.shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(0)
        ),
        "erased": lambda: erased(digits),
    }

    assert auroc(elbo(model, digits), elbo(model, others[strange]())) > least
