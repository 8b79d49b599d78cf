"""Idea 2: which copy of a digit the pixels prefer, and which the model."""

from __future__ import annotations

import torch
from matplotlib.figure import Figure
from torch import Tensor
from torch.nn import functional as F

from model_store import VAE
from model_store.vae.pixels import to_images
from training.console import say
from training.evaluate.bounds import score

from .material import Material
from .parts import means, percent, signed

DRAWS = 10  # of the posterior for each ELBO of figure abc


def abc(material: Material) -> Figure:
    """Digits (a), with a piece erased (b) and shifted (c): pixels prefer (b), the model (c)."""
    original, shown = material.images.test[:1000], 8
    copies = (original, erased(original), shifted(original))
    errors = [squared_error(copy, original) for copy in copies]
    bounds = [score(material.shipped, copy[:shown], DRAWS).elbo_nats for copy in copies]
    say_preferences(material.shipped, original)
    figure = Figure(figsize=(9.5, 4.6), layout="constrained")
    for name, row, copy, error, bound in zip("abc", figure.subplots(3, shown), copies, errors, bounds, strict=True):
        row[0].set_ylabel(f"({name})", rotation=0, labelpad=14, fontsize=11)
        for axes, image, mse, elbo in zip(row, copy, error, bound, strict=False):
            axes.imshow(image[0], cmap="gray")
            axes.set(xticks=[], yticks=[])
            axes.set_xlabel(f"MSE {mse:.3f}\nELBO {signed(elbo.item())}", fontsize=8)
    return figure


def erased(pixels: Tensor, side: int = 5) -> Tensor:
    """(b): black in the one side×side window that holds the most ink; uint8 (N, 1, H, W), as is the result."""
    ink = F.avg_pool2d(pixels.float(), side, stride=1)
    place = ink.flatten(1).argmax(1)
    rows = window(place // ink.shape[3], side, pixels.shape[2])
    columns = window(place % ink.shape[3], side, pixels.shape[3])
    return pixels.masked_fill(rows[:, None, :, None] & columns[:, None, None, :], 0)


def shifted(pixels: Tensor, right: int = 1, down: int = 0) -> Tensor:
    """(c): moved by whole pixels; uint8 (N, 1, H, W), as is the result. What leaves the image is lost."""
    return F.pad(pixels, (right, -right, down, -down))


def window(first: Tensor, side: int, length: int) -> Tensor:
    """The `length` places that lie in the window of `side` that begins at `first` (N,): booleans (N, length)."""
    places = torch.arange(length)
    return (places >= first.unsqueeze(1)) & (places < first.unsqueeze(1) + side)


def say_preferences(model: VAE, original: Tensor) -> None:
    """Print for how many digits the pixels prefer (b), and the model (c), for several shifts (c)."""
    erasure = erased(original)
    bounds, errors = score(model, erasure, DRAWS).elbo_nats, squared_error(erasure, original)
    say(f"  (a) ELBO {score(model, original, DRAWS).elbo_nats.mean():.1f} nats")
    say(f"  (b) a 5×5 window erased: MSE {errors.mean():.3f}, ELBO {bounds.mean():.1f} nats")
    for right, down in ((1, 0), (1, 1), (2, 0)):
        copy = shifted(original, right, down)
        elbo, mse = score(model, copy, DRAWS).elbo_nats, squared_error(copy, original)
        closer = distance(model, original, copy) < distance(model, original, erasure)
        say(f"  (c) {right} right, {down} down: MSE {mse.mean():.3f}, ELBO {elbo.mean():.1f} nats; of {len(copy)}")
        say(f"    MSE prefers (b) in {percent(errors < mse)}, ELBO (c) in {percent(elbo > bounds)},")
        say(f"    distance of posterior means (c) in {percent(closer)}")


def squared_error(one: Tensor, other: Tensor) -> Tensor:
    """The mean squared error of uint8 pixels (N, C, H, W), (N,), on the scale [0, 1]."""
    return (to_images(one) - to_images(other)).square().flatten(1).mean(1)


def distance(model: VAE, one: Tensor, other: Tensor) -> Tensor:
    """The Euclidean distance between the posterior means of uint8 pixels (N, C, H, W), (N,)."""
    return (means(model, one) - means(model, other)).flatten(1).square().sum(1).sqrt()
