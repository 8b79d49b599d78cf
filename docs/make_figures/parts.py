"""The parts that several figures share: latents, pictures and numbers."""

from __future__ import annotations

import math

import torch
from matplotlib.axes import Axes
from torch import Tensor

from model_store import VAE
from model_store.pictures import contact_sheet
from model_store.vae.noise import standard_normal
from model_store.vae.pixels import to_images, to_pixels

SEED = 0
LEGEND = {"markerscale": 4.0, "handletextpad": 0.1, "columnspacing": 0.8}


@torch.inference_mode()
def means(model: VAE, pixels: Tensor) -> Tensor:
    """The means of the latents of uint8 pixels (N, C, H, W), (N, *latent_shape)."""
    return torch.cat([model.encode(to_images(part)).mean for part in torch.split(pixels, 500)])


@torch.inference_mode()
def decoded(model: VAE, latents: Tensor) -> Tensor:
    """Mean images of latents (N, *latent_shape), uint8 (N, C, H, W)."""
    return torch.cat([to_pixels(model.decode(part).mean) for part in torch.split(latents, 100)])


def samples(model: VAE, count: int) -> Tensor:
    """Decoded draws of the prior, uint8 (count, C, H, W): the images that `training.evaluate.novelty` measures."""
    return decoded(model, model.prior.sample(standard_normal(SEED, count, model.config.latent_shape)))


def show(axes: Axes, pixels: Tensor, columns: int | None = None, title: str = "") -> None:
    """Show pixels uint8 (N, 1, H, W) as one picture."""
    axes.imshow(contact_sheet(pixels.numpy(), columns)[0], cmap="gray", interpolation="nearest")
    axes.set(xticks=[], yticks=[])
    axes.set_title(title, fontsize=10)


def scatter(axes: Axes, latents: Tensor, labels: Tensor) -> None:
    """Plot latents (N, 2), coloured by class (N,)."""
    for digit in range(10):
        first, second = latents[labels == digit].T.tolist()
        axes.scatter(first, second, s=3, color=f"C{digit}", label=str(digit), linewidths=0)


def circles(axes: Axes) -> None:
    """Draw the circles at one and two standard deviations of the prior."""
    angles = torch.linspace(0, 2 * math.pi, 200)
    for radius in (1, 2):
        axes.plot((radius * angles.cos()).tolist(), (radius * angles.sin()).tolist(), color="black", linewidth=0.8)


def signed(value: float, digits: int = 1) -> str:
    """A number with a typographic minus sign."""
    return f"{value:.{digits}f}".replace("-", "−")


def percent(which: Tensor) -> str:
    """The percentage of booleans (N,) that are true."""
    return f"{100 * which.double().mean():.1f} %"


def numbers(values: Tensor) -> str:
    """A few numbers as a line of text."""
    return ", ".join(f"{value:.2f}" for value in values.tolist())
