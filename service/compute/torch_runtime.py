"""The forward passes of a model, computed by torch on tensors of one device.

Each returns its outputs and, as the last tensor, a flag for each row that is finite: bool (B,).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial, reduce
from typing import Literal

import torch
from torch import Tensor

from model_store.families import Network
from model_store.taesd import TAESD
from model_store.vae import VAE
from model_store.vae.family import Operation
from model_store.vae.pixels import to_images, to_pixels

from .rows import Rows

ForwardPass = Literal[
    "encode",
    "decode",
    "render",
    "score",
    "error_map",
    "encode_local",
    "encode_whole",
    "decode_whole",
    "decode_local",
    "render_local",
]
# A model has a forward pass if it can do this operation.
OPERATION_OF: Mapping[ForwardPass, Operation] = {
    "encode": "encode",
    "decode": "decode",
    "render": "decode",
    "score": "score",
    "error_map": "score",
}
# A forward pass that takes as long as another one, and is computed in the same batches.
SAME_PLAN_AS: Mapping[ForwardPass, ForwardPass] = {"render": "decode", "error_map": "score"}
Compute = Callable[..., Rows]
ForwardPasses = Mapping[ForwardPass, Compute]


def encode(model: Network, pixels: Tensor) -> Rows:
    """Mean and log-variance of the posterior, (B, *latent_shape), from uint8 pixels (B, C, H, W).

    A plain autoencoder has no log-variance.
    """
    posterior = model.encode(to_images(pixels))
    parts = (posterior.mean, posterior.log_variance)
    return with_finite_flags(*(part for part in parts if part is not None))


def decode(model: Network, latents: Tensor) -> Rows:
    """Images float32 (B, C, H, W) in [0, 1] from latents float32 (B, *latent_shape)."""
    return with_finite_flags(model.decode(latents).mean)


def render(model: Network, latents: Tensor) -> Rows:
    """The images of `decode` as uint8 pixels: a quarter of the bytes, for answers that are pictures."""
    images, finite = decode(model, latents)
    # Take the flags of the images, not of the pixels: NaN would become a black pixel.
    return to_pixels(images), finite


def score(model: VAE, pixels: Tensor, latents: Tensor) -> Rows:
    """log p(x|z) in nats, (B,), of uint8 pixels (B, C, H, W) given latents float32 (B, *latent_shape)."""
    return with_finite_flags(model.decode(latents).log_prob(to_images(pixels)))


def error_map(model: VAE, pixels: Tensor, latents: Tensor) -> Rows:
    """log p(x|z) of each pixel in nats, (B, H, W): `score` before the sum over the pixels."""
    return with_finite_flags(model.decode(latents).log_prob_of_pixels(to_images(pixels)))


def encode_local(model: TAESD, pixels: Tensor) -> Rows:
    """Features of uint8 pixels (B, C, H, W): the first stage of `encode`, of which a part depends on a part."""
    return with_finite_flags(model.encode_local(to_images(pixels)).float())


def encode_whole(model: TAESD, features: Tensor) -> Rows:
    """Latents of the features of whole images."""
    return with_finite_flags(model.encode_whole(features).mean)


def decode_whole(model: TAESD, latents: Tensor) -> Rows:
    """Features of whole latents: the first stage of `decode`."""
    return with_finite_flags(model.decode_whole(latents).float())


def decode_local(model: TAESD, features: Tensor) -> Rows:
    """Images float32 in [0, 1] of features."""
    return with_finite_flags(model.decode_local(features).mean)


def render_local(model: TAESD, features: Tensor) -> Rows:
    """The images of `decode_local` as uint8 pixels."""
    images, finite = decode_local(model, features)
    return to_pixels(images), finite


def with_finite_flags(*outputs: Tensor) -> Rows:
    """The outputs, contiguous, and a flag for each row that is finite in all of them."""
    # The largest value of a row with NaN is NaN. This takes 0.1 ms for 64 images of 3×64×64, and `isfinite().all(1)`
    # 1.1 ms, longer than a small network (AMD EPYC, one thread, November 2026).
    rows = ((output.abs().flatten(1).amax(1) if output.dim() > 1 else output).isfinite() for output in outputs)
    return (*(output.contiguous() for output in outputs), reduce(torch.logical_and, rows))


STAGES: Mapping[ForwardPass, Compute] = {
    "encode_local": encode_local,
    "encode_whole": encode_whole,
    "decode_whole": decode_whole,
    "decode_local": decode_local,
    "render_local": render_local,
}
"""The stages of networks that have a halo (`FamilyConfig.halo`)."""


def torch_forward_passes(model: Network) -> ForwardPasses:
    """All forward passes by name, also those that the model lacks: they raise an error when they are called."""
    known: dict[ForwardPass, Compute] = {
        "encode": encode,
        "decode": decode,
        "render": render,
        "score": score,
        "error_map": error_map,
    }
    if model.config.halo is not None:
        known |= STAGES
    return {name: partial(compute, model) for name, compute in known.items()}
