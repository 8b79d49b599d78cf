"""The operations of a model, on tensors of one device, as torch computes them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

from torch import Tensor

from model_store.vae import VAE
from model_store.vae.pixels import to_images

Inputs = tuple[Tensor, ...]
Outputs = tuple[Tensor, ...]
Operations = Mapping[str, Callable[..., Outputs]]


def encode(model: VAE, pixels: Tensor) -> Outputs:
    """Mean and log-variance of the posterior, (B, *latent_shape), from uint8 pixels (B, C, H, W); or a point alone."""
    posterior = model.encode(to_images(pixels))
    return (posterior.mean,) if posterior.log_variance is None else (posterior.mean, posterior.log_variance)


def decode(model: VAE, latents: Tensor) -> Outputs:
    """Images float32 (B, C, H, W) in [0, 1] from latents float32 (B, *latent_shape)."""
    return (model.decode(latents).mean,)


def score(model: VAE, pixels: Tensor, latents: Tensor) -> Outputs:
    """log p(x|z) in nats, (B,), of uint8 pixels (B, C, H, W) given latents float32 (B, *latent_shape)."""
    return (model.decode(latents).log_prob(to_images(pixels)),)


def torch_operations(model: VAE) -> Operations:
    """Every operation, by its name; a model may lack what one of them needs."""
    return {"encode": partial(encode, model), "decode": partial(decode, model), "score": partial(score, model)}
