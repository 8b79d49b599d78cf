"""Pictures of a trained model, as PNG bytes: what it makes up, what it makes of test images, how it learned."""

from __future__ import annotations

import io
from collections.abc import Sequence

import torch
from matplotlib.figure import Figure
from PIL import Image
from torch import Tensor

from model_store import VAE
from model_store.pictures import pixels_to_picture
from model_store.vae.noise import standard_normal
from model_store.vae.pixels import grid, to_images, to_pixels

from ..epoch import Epoch

SAMPLES = 64
PAIRS = 16

_LEAST_SIDE = 448


def of_a_run(model: VAE, test: Tensor, history: Sequence[Epoch], best_epoch: int, measure: str) -> dict[str, bytes]:
    """The figures that a version is published with, by file name; what a model cannot do has none."""
    figures = {"curves.png": curves(history, best_epoch, measure)}
    if model.config.posterior != "point":
        figures["samples.png"] = samples(model)
    if model.config.posterior != "none":
        figures["reconstructions.png"] = reconstructions(model, test)
    return figures


@torch.inference_mode()
def samples(model: VAE, seed: int = 0) -> bytes:
    """A grid of images that are in no data set: latents drawn from the prior, decoded."""
    latents = model.prior.sample(standard_normal(seed, SAMPLES, model.config.latent_shape))
    return _png(grid(to_pixels(model.decode(latents).mean)))


@torch.inference_mode()
def reconstructions(model: VAE, test: Tensor) -> bytes:
    """Test images (uint8), and under each what the model makes of its latents' mean."""
    originals = test[:PAIRS]
    latents = model.prior.from_normal(model.encode(to_images(originals)).mean)
    remade = to_pixels(model.decode(latents).mean)
    half = (len(originals) + 1) // 2
    rows = [part for start in (0, half) for part in (originals[start : start + half], remade[start : start + half])]
    return _png(grid(torch.stack([grid(row, columns=half) for row in rows]), columns=1))


def curves(history: Sequence[Epoch], best_epoch: int, measure: str) -> bytes:
    """The objective and its KL over the epochs; the steep beginning is cut off, so that the end can be seen."""
    epochs = [epoch.number for epoch in history]
    validation = [epoch.validation_nats for epoch in history]
    divergences = [epoch.validation_kl_nats for epoch in history if epoch.validation_kl_nats is not None]
    figure = Figure(figsize=(10, 4), layout="constrained")
    bounds, *rest = figure.subplots(1, 2 if divergences else 1, squeeze=False)[0]
    bounds.plot(epochs, [epoch.train_nats for epoch in history], label="training, running weights")
    bounds.plot(epochs, validation, label="validation, averaged weights")
    bounds.axvline(best_epoch, color="grey", linestyle=":", label=f"best: epoch {best_epoch}")
    bounds.set(xlabel="epoch", title=f"{measure}, nats per image", ylim=(validation[len(history) // 20] - 1, None))
    bounds.legend(frameon=False)
    for divergence in rest:
        divergence.plot(epochs, divergences, color="tab:green")
        divergence.set(xlabel="epoch", title="KL to the prior, nats per image (validation)")
    for axes in (bounds, *rest):
        axes.grid(alpha=0.3)
        axes.spines[["top", "right"]].set_visible(False)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=100)
    return buffer.getvalue()


def _png(pixels: Tensor) -> bytes:
    """A picture as PNG, its pixels doubled until a person can see them."""
    picture = pixels_to_picture(pixels)
    scale = -(-_LEAST_SIDE // min(picture.size))
    buffer = io.BytesIO()
    picture.resize((picture.width * scale, picture.height * scale), Image.Resampling.NEAREST).save(buffer, "PNG")
    return buffer.getvalue()
