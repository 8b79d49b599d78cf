"""Whether samples are new: the distance of samples, and of test images, to the nearest training image."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from model_store import VAE
from model_store.vae.noise import standard_normal
from model_store.vae.pixels import to_images

IMAGES = 1000
SEED = 0

_BATCH_IMAGES = 10_000


@dataclass(frozen=True)
class Novelty:
    """Medians of the Euclidean distance to the nearest training image, pixels in [0, 1].

    Samples nearer than test images would be copies; samples much farther would not look like the data.
    """

    samples: float
    test: float


@torch.inference_mode()
def novelty(model: VAE, train: Tensor, test: Tensor) -> Novelty:
    """Measure the novelty of a thousand samples against uint8 pixels (N, C, H, W)."""
    device = model.device
    noise = standard_normal(SEED, IMAGES, model.config.latent_shape).to(device)
    parts = torch.split(model.sample(noise), 100)
    samples = torch.cat([model.decode(part).mean for part in parts])
    return Novelty(
        samples=nearest(samples.cpu(), train).median().item(),
        test=nearest(to_images(test[:IMAGES].cpu()), train).median().item(),
    )


def nearest(images: Tensor, train: Tensor) -> Tensor:
    """The Euclidean distance of each image (N, C, H, W) to the nearest of the uint8 training pixels, (N,)."""
    flat = images.flatten(1)
    found = torch.full((len(images),), torch.inf)
    for part in torch.split(train, _BATCH_IMAGES):
        distances = torch.cdist(flat, to_images(part.cpu()).flatten(1))
        found = found.minimum(distances.min(1).values)
    return found
