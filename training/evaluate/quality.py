"""Warnings about a trained model whose numbers say that it has learned nothing. Such a model is published as well.

Each rule compares the model with one that needs no training.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from model_store import VAE, VAEConfig
from model_store.vae import GaussianConfig
from model_store.vae.likelihoods import decoder_numbers, likelihood
from model_store.vae.pixels import to_images
from model_store.vae.scoring_protocol import binarised_for_scoring

from ..data import Dataset
from .bounds import EVALUATION_SEED, batches_of

ONE_BIT_NATS = math.log(2)

_BATCH_IMAGES = 500
_MIN_VARIANCE = 1 / 255**2 / 12  # the rounding to 256 grey values: constant images have no other variance


def warnings(model: VAE, dataset: Dataset, measure: str, nats: float, kl_nats: float | None = None) -> list[str]:
    """Return the warnings about a model, each a sentence.

    `nats` is the mean over the test images of `measure`, such as `elbo_nats`; `kl_nats` is the mean of the KL. Without
    training images there is nothing to compare `nats` with.
    """
    found = []
    if len(dataset.train) and nats < (
        known := mean_image_nats(model.config, dataset.train, dataset.test).mean().item()
    ):
        found.append(
            f"{measure} is {nats:.5g}, below the {known:.5g} of a decoder that gives the mean training image for "
            "every latent: the model has learned nothing; train it longer, or with a smaller optimiser.learning_rate."
        )
    # The mean KL is the information that a latent has about its image, plus what separates the aggregate posterior
    # from the prior (Hoffman and Johnson 2016, "ELBO surgery"). So it bounds that information from above.
    if kl_nats is not None and kl_nats < ONE_BIT_NATS:
        found.append(
            f"kl_nats is {kl_nats:.2g}, less than one bit ({ONE_BIT_NATS:.2f} nats): the posterior has collapsed to "
            "the prior, so latents say almost nothing about their image; "
            f"{collapse_remedy(model.config, dataset.train)}."
        )
    return found


def collapse_remedy(config: VAEConfig, train: Tensor) -> str:
    """The likely cause of a collapsed posterior, where the numbers show it, and the remedy: a clause.

    A linear decoder uses a direction of the images only if their variance along it is above that of the likelihood's
    noise. Source: Tipping and Bishop 1999, "Probabilistic principal component analysis", equation (7); for variational
    autoencoders Lucas et al. 2019, "Don't blame the ELBO! A linear VAE perspective on posterior collapse".
    """
    usual = "raise objective.kl_warmup_fraction or objective.free_nats, or lower objective.kl_weight"
    fixed = config.likelihood
    if not isinstance(fixed, GaussianConfig) or fixed.standard_deviation is None or not len(train):
        return usual
    noise, largest = fixed.standard_deviation**2, largest_variance(train)
    if noise < largest:
        return usual
    return (
        f"the likelihood's standard_deviation of {fixed.standard_deviation:.3g} hides the images: its square, "
        f"{noise:.3g}, is above their variance along every direction, {largest:.3g} at most; set "
        "objective.fits_deviation=true, which finds it"
    )


def largest_variance(pixels: Tensor) -> float:
    """The largest eigenvalue of the covariance of uint8 pixels (N, C, H, W), as values in [0, 1].

    Of at most 500 of the images, evenly apart: the products of all pairs have the eigenvalues of the covariance.
    """
    images = to_images(pixels[:: math.ceil(len(pixels) / _BATCH_IMAGES)].cpu()).double().flatten(1)
    centred = images - images.mean(0)
    return float(torch.linalg.eigvalsh(centred @ centred.T / len(images))[-1])


def mean_image_nats(config: VAEConfig, train: Tensor, test: Tensor) -> Tensor:
    """Return log p(x) of the test pixels, (N,), under a decoder that gives the mean training image for every latent.

    Where the likelihood learns a variance, the decoder gives one variance for all pixels. Training can always reach
    this decoder if its last layer is fully connected: that needs only a bias.
    """
    mean, variance = mean_and_variance(train)
    numbers = decoder_numbers(config, mean, variance, len(train)).float().unsqueeze(0)
    parts = batches_of(config, binarised_for_scoring(config, test.cpu(), EVALUATION_SEED))
    return torch.cat(
        [likelihood(config, numbers.expand(len(part), -1, -1, -1)).log_prob(to_images(part)).double() for part in parts]
    )


def mean_and_variance(pixels: Tensor) -> tuple[Tensor, float]:
    """The mean image (C, H, W), float64, and the mean variance of a pixel, of uint8 pixels (N, C, H, W)."""
    total = torch.zeros(pixels.shape[1:], dtype=torch.float64)
    squares = torch.zeros_like(total)
    for part in torch.split(pixels.cpu(), _BATCH_IMAGES):
        images = to_images(part).double()
        total += images.sum(0)
        squares += images.square().sum(0)
    mean = total / len(pixels)
    return mean, max((squares / len(pixels) - mean.square()).mean().item(), _MIN_VARIANCE)
