"""Pictures of what a model does, as PNG files: images that it samples, and test images that it reconstructs."""

from __future__ import annotations

import io

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from model_store import VAE
from model_store.families import Network
from model_store.pictures import Pixels, contact_sheet, pixels_to_picture
from model_store.vae.noise import standard_normal
from model_store.vae.pixels import to_images, to_pixels

SAMPLES = 64
PAIRS = 16
MAX_FIGURE_BYTES = 2**26  # of a stored version

_MIN_SIDE = 448


def figures(model: VAE, test: Tensor) -> dict[str, bytes]:
    """The figures by file name, from a model on the CPU and uint8 test pixels (N, C, H, W).

    A plain autoencoder without a sampler cannot sample, and a model without an encoder cannot reconstruct: they have no
    such figure.
    """
    found = {}
    if "sample" in model.config.can:
        found["samples.png"] = samples(model)
    if "reconstruct" in model.config.can:
        found["reconstructions.png"] = reconstructions(model, test)
    return found


@torch.inference_mode()
def samples(model: VAE, seed: int = 0) -> bytes:
    """A grid of the mean images of latents that are drawn from the prior, or from the first sampler."""
    latents = model.sample(standard_normal(seed, SAMPLES, model.config.latent_shape))
    return _png(contact_sheet(to_pixels(model.decode(latents).mean).numpy()))


@torch.inference_mode()
def reconstructions(model: Network, test: Tensor) -> bytes:
    """Two rows of test images; under each row their reconstructions from the mean of their latents."""
    originals = test[:PAIRS]
    latents = model.prior.latents_of(model.encode(to_images(originals).to(model.device)).mean)
    remade = to_pixels(model.decode(latents).mean).cpu()
    half = (len(originals) + 1) // 2
    starts = range(0, len(originals), half)  # a single image has no second row
    rows = [part for start in starts for part in (originals[start : start + half], remade[start : start + half])]
    return _png(contact_sheet(np.stack([contact_sheet(row.numpy(), columns=half) for row in rows]), columns=1))


def _png(pixels: Pixels) -> bytes:
    """A PNG of uint8 pixels (C, H, W), enlarged by a whole factor until its shorter side has at least 448 pixels."""
    picture = pixels_to_picture(pixels)
    scale = -(-_MIN_SIDE // min(picture.size))
    buffer = io.BytesIO()
    picture.resize((picture.width * scale, picture.height * scale), Image.Resampling.NEAREST).save(buffer, "PNG")
    return buffer.getvalue()
