"""The digit models that ship: they keep the promises of their cards and recognise digits."""

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from model_store import Store, StoredModel
from model_store.vae.noise import standard_normal, uniform
from model_store.vae.pixels import binarise, to_images

from .bounds import bound_of

PAIRS = 16


@pytest.fixture(scope="module", params=["mnist@1", "mnist@2"])
def shipped(request: pytest.FixtureRequest) -> StoredModel:
    """A shipped model, read as the service reads it."""
    store = Store()
    return store.load(store.resolve(request.param))


@pytest.fixture(scope="module")
def digits() -> Tensor:
    """The sixteen test digits of the published picture, uint8 (16, 1, 28, 28): its first and third row."""
    store = Store()
    with Image.open(store.folder(store.resolve("mnist@1")) / "reconstructions.png") as picture:
        small = picture.resize((PAIRS // 2 * 28, 4 * 28), Image.Resampling.NEAREST)
    tiles = torch.from_numpy(np.array(small)).view(4, 28, PAIRS // 2, 28).permute(0, 2, 1, 3)
    return torch.cat([tiles[0], tiles[2]]).unsqueeze(1).contiguous()


def elbo(shipped: StoredModel, pixels: Tensor) -> Tensor:
    """The bound of each image in nats."""
    images = binarise(pixels, uniform(0, len(pixels), tuple(pixels.shape[1:])))
    return bound_of(
        shipped.vae, images, standard_normal(0, len(images), shipped.card.model.example_latent_shape)
    ).elbo_nats


def test_shipped_store_has_a_default_model() -> None:
    """Requests without a model's name mean the digits, also after other models were published."""
    assert Store().default() == "mnist"


def test_card_says_what_was_promised(shipped: StoredModel) -> None:
    """60 000 images, at most 8 MB, −90 nats or better on the test set under dynamic binarisation."""
    training, metric = shipped.card.training, shipped.card.metric("elbo_nats")

    assert training is not None
    assert metric is not None
    assert training.data.train_images + training.data.validation_images == 60_000
    assert shipped.card.weights.bytes <= 8_000_000
    assert metric.value >= -90
    assert "10000 test images, each binarised" in metric.protocol
    assert training.git_commit
    assert not training.git_commit.endswith("-dirty")


def test_test_digits_have_about_the_bound_that_the_card_says(shipped: StoredModel, digits: Tensor) -> None:
    """Single images vary by some 25 nats, so the mean of sixteen lies within 38, six standard errors, of the card's."""
    metric = shipped.card.metric("elbo_nats")

    assert metric is not None
    assert abs(elbo(shipped, digits).mean().item() - metric.value) < 38


def test_digits_are_likelier_than_other_images(shipped: StoredModel, digits: Tensor) -> None:
    """Each digit scores higher than its negative and than noise; on average, also than its mirror image."""
    noise = torch.randint(0, 2, digits.shape, generator=torch.Generator().manual_seed(0), dtype=torch.uint8) * 255
    scores = elbo(shipped, digits)

    assert (scores > elbo(shipped, 255 - digits)).all()
    assert (scores > elbo(shipped, noise)).all()
    assert scores.mean() > elbo(shipped, digits.flip(3)).mean()


def test_reconstructions_resemble_the_originals(shipped: StoredModel, digits: Tensor) -> None:
    """The squared error, on the scale [0, 1], is a small part of the error of a grey picture."""
    images = to_images(digits)
    remade = shipped.model.decode(shipped.model.encode(images).mean).mean
    error = (remade - images).square().mean()

    assert error < 0.2 * (images - images.mean()).square().mean()


def test_samples_differ_and_resemble_digits_more_than_noise_does(shipped: StoredModel) -> None:
    """Random latents give images that the model itself finds likely, and no two of them alike."""
    latents = shipped.vae.prior.sample(standard_normal(7, 64, shipped.card.model.example_latent_shape))
    images = shipped.model.decode(latents).mean
    distances = torch.cdist(images.flatten(1), images.flatten(1)) + 1e9 * torch.eye(64)

    assert distances.min() > 1
    assert 0.05 < images.mean() < 0.25
