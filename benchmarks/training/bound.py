"""The negative bound in its plain form, for networks with a Bernoulli likelihood."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from model_store.vae import VAE


def negative_bound(model: VAE, images: Tensor) -> Tensor:
    """The bound in nats, summed over images (B, C, H, W) in [0, 1] (Kingma and Welling 2014, eq. 10 and appendix B)."""
    if model.encoder is None:
        raise ValueError("the model has no encoder; expected a variational autoencoder's")
    mean, log_variance = model.encoder(images).float().chunk(2, dim=1)
    latents = mean + torch.randn_like(mean) * torch.exp(0.5 * log_variance)
    errors = F.binary_cross_entropy_with_logits(model.decoder(latents).float(), images, reduction="sum")
    return errors - 0.5 * torch.sum(1 + log_variance - mean**2 - log_variance.exp())
