"""What a model is worth: the bound over a whole split, by a protocol that is stated beside the number."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from model_store import VAE, Metric
from model_store.vae import bound
from model_store.vae.pixels import binarise

EVALUATION_SEED = 0

_BATCH_IMAGES = 500


@dataclass(frozen=True)
class Evaluation:
    """Means over `images` images, in nats."""

    images: int
    log_likelihood_nats: float
    kl_nats: float

    @property
    def elbo_nats(self) -> float:
        """The evidence lower bound."""
        return self.log_likelihood_nats - self.kl_nats

    def metrics(self, split: str) -> list[Metric]:
        """The numbers as a card holds them."""
        protocol = (
            f"mean of {self.images} {split} images, each binarised once by its grey values, "
            f"one posterior draw each, seed {EVALUATION_SEED}"
        )
        names = ("elbo_nats", "log_likelihood_nats", "kl_nats")
        return [Metric(name=name, value=getattr(self, name), unit="nats", protocol=protocol) for name in names]


@torch.inference_mode()
def evaluate(model: VAE, pixels: Tensor) -> Evaluation:
    """The bound of all images, in float32.

    Draws come from the CPU and from the same seed every time, so that two models, on any two devices, see the same.
    """
    device = next(model.parameters()).device
    generator = torch.Generator().manual_seed(EVALUATION_SEED)
    sums = torch.zeros(2, dtype=torch.float64)
    for batch in torch.split(pixels, _BATCH_IMAGES):
        images = binarise(batch, generator)
        noise = torch.randn(len(batch), *model.config.latent_shape, generator=generator)
        terms = bound(model, images.to(device), noise.to(device))
        sums += torch.stack([terms.log_likelihood_nats.double().sum(), terms.kl_nats.double().sum()]).cpu()
    log_likelihood, kl = (sums / len(pixels)).tolist()
    return Evaluation(len(pixels), log_likelihood, kl)
