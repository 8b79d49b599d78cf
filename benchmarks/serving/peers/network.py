"""The network that every peer serves: our weights, plain torch around them. Each peer may batch as it likes.

It is in float32 and eager, as a user would load it. It runs in the peers' environments, of which it needs torch,
safetensors, pydantic and Pillow. Only Bernoulli likelihoods and latent vectors: the networks of the benchmark.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from model_store import Store

from ..place import here


class Network:
    """Encodes and decodes batches, with `threads` threads of torch in this process."""

    def __init__(self, store: Path, name: str, threads: int) -> None:
        torch.set_num_threads(threads)
        shelf = Store(store)
        model = shelf.load(shelf.resolve(name)).vae.eval()
        if model.encoder is None:
            raise ValueError("This model has no encoder.")
        self._encoder, self._decoder = model.encoder, model.decoder
        (self._dimensions,) = model.config.latent_shape

    @torch.inference_mode()
    def encode(self, pixels: Tensor) -> Tensor:
        """Mean latents float32 (B, D) of uint8 pixels (B, C, H, W)."""
        means: Tensor = self._encoder(pixels.float().div_(255))[:, : self._dimensions]
        return means

    @torch.inference_mode()
    def decode(self, latents: Tensor) -> Tensor:
        """uint8 pixels (B, C, H, W) of latents float32 (B, D)."""
        images: Tensor = self._decoder(latents).sigmoid_()
        return images.mul_(255).round_().to(torch.uint8)

    def sample(self, count: int) -> Tensor:
        """uint8 pixels (count, C, H, W) of latents drawn from N(0, I)."""
        return self.decode(torch.randn(count, self._dimensions))


def load() -> Network:
    """The network that the place of this process names."""
    place = here()
    return Network(place.store, place.model, place.threads)
