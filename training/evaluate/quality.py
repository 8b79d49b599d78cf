"""Warnings about a trained model whose numbers say that it has learned nothing of use. It is published all the same.

Each rule compares the model with one that can be had without training.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from model_store import VAE, VAEConfig
from model_store.vae.likelihoods import decoder_numbers, likelihood
from model_store.vae.pixels import to_images
from model_store.vae.scoring_protocol import binarised_for_scoring

from ..data import Dataset
from .bounds import EVALUATION_SEED

ONE_BIT_NATS = math.log(2)

_BATCH_IMAGES = 500
_LEAST_VARIANCE = 1 / 255**2 / 12  # of a grey value that was rounded to one of 256: constant images have no other


def warnings(model: VAE, dataset: Dataset, measure: str, nats: float, kl_nats: float | None = None) -> list[str]:
    """Return what is suspicious about a model, a sentence each.

    `nats` is the mean of the test images in the words of `measure`, such as `elbo_nats`; `kl_nats` is that of the KL.
    """
    found = []
    known = mean_image_nats(model.config, dataset.train, dataset.test).mean().item()
    if nats < known:
        found.append(
            f"{measure} is {nats:.5g}, below the {known:.5g} of a decoder that gives the mean training image for "
            "every latent: the model is of no use; train it longer, or with a smaller optimiser.learning_rate."
        )
    # The mean KL is the information that a latent has about its image, plus what separates the aggregate posterior
    # from the prior (Hoffman and Johnson 2016, "ELBO surgery"). So it bounds that information from above.
    if kl_nats is not None and kl_nats < ONE_BIT_NATS:
        found.append(
            f"kl_nats is {kl_nats:.2g}, less than one bit ({ONE_BIT_NATS:.2f} nats): the posterior has collapsed to "
            "the prior, and latents say almost nothing about their image; raise objective.kl_warmup_fraction or "
            "objective.free_nats, or lower objective.kl_weight."
        )
    return found


def mean_image_nats(config: VAEConfig, train: Tensor, test: Tensor) -> Tensor:
    """Return log p(x) of the test pixels, (N,), under the best decoder that ignores its latents, or one close to it.

    It gives the mean of the training pixels, and one variance for all of them where the likelihood has a learned one.
    A trained model contains this one: its decoder's last layer needs no more than a bias.
    """
    mean, variance = _moments(train)
    numbers = decoder_numbers(config, mean, variance, len(train)).float().unsqueeze(0)
    parts = torch.split(binarised_for_scoring(config, test.cpu(), EVALUATION_SEED), _BATCH_IMAGES)
    return torch.cat(
        [likelihood(config, numbers.expand(len(part), -1, -1, -1)).log_prob(to_images(part)).double() for part in parts]
    )


def _moments(pixels: Tensor) -> tuple[Tensor, float]:
    """The mean image (C, H, W), float64, and the mean square of what each image differs from it."""
    total = torch.zeros(pixels.shape[1:], dtype=torch.float64)
    squares = torch.zeros_like(total)
    for part in torch.split(pixels.cpu(), _BATCH_IMAGES):
        images = to_images(part).double()
        total += images.sum(0)
        squares += images.square().sum(0)
    mean = total / len(pixels)
    return mean, max((squares / len(pixels) - mean.square()).mean().item(), _LEAST_VARIANCE)
