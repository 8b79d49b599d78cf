"""The standard deviation of the pixels that a run finds: one number for all pixels, in closed form.

For a decoder's locations, the variance under which images are most likely is the mean squared error. A number that is
chosen by hand weighs reconstruction against KL as a hidden β. Source: Rybkin, Daniilidis and Levine 2021, "Simple and
effective VAE training with calibrated decoders" (optimal σ-VAE).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from model_store import VAE, VAEConfig
from model_store.vae.config import MAX_DEVIATION, MIN_DEVIATION, GaussianConfig
from model_store.vae.likelihoods import Gaussian
from model_store.vae.pixels import to_images
from model_store.vae.scoring_protocol import posterior_noise

from .evaluate.bounds import EVALUATION_SEED, batches_of

_IMAGES = 2048  # of the training images, evenly apart: the mean error of more would hardly differ


def with_fitted_deviation(model: VAE, pixels: Tensor) -> VAEConfig:
    """The configuration of a model whose deviation fits its errors on uint8 pixels (N, C, H, W).

    It depends on the weights and the pixels alone, so that a resumed run finds the same number.
    """
    some = pixels[:: math.ceil(len(pixels) / _IMAGES)]
    deviation = math.sqrt(mean_squared_error_of_draws(model, some))
    fitted = GaussianConfig(standard_deviation=min(max(deviation, MIN_DEVIATION), MAX_DEVIATION))
    return model.config.model_copy(update={"likelihood": fitted})


@torch.inference_mode()
def mean_squared_error_of_draws(model: VAE, pixels: Tensor) -> float:
    """The mean squared error of a decoder's locations, given one posterior draw of each image, as in the bound."""
    total, device = 0.0, model.device
    noise = posterior_noise(EVALUATION_SEED, 0, len(pixels), model.config.latent_shape)
    for part, epsilon in zip(batches_of(model.config, pixels), batches_of(model.config, noise), strict=True):
        images = to_images(part.to(device))
        decoded = model.decode(model.prior.latents_of(model.encode(images).sample(epsilon.to(device))))
        if not isinstance(decoded, Gaussian):
            raise TypeError(f"A likelihood {model.config.likelihood.kind} has no standard deviation")
        total += (images - decoded.location).double().square().sum().item()
    return total / pixels.numel()
