"""Idea 1: the two latents of a plain autoencoder."""

from __future__ import annotations

import torch
from matplotlib.figure import Figure

from training.console import say

from .material import PLANE, Material
from .parts import LEGEND, decoded, means, numbers, scatter, show


def autoencoder(material: Material) -> Figure:
    """The two latents of a plain autoencoder, and its reconstructions of test images."""
    model = material.trained(*PLANE, "model.posterior=point")
    test = material.images.test
    latents = means(model, test)
    figure = Figure(figsize=(9, 4.2), layout="constrained")
    plane, pictures = figure.subplots(1, 2, width_ratios=(1, 1.1))
    scatter(plane, latents[:2000], material.labels[:2000])
    plane.set(title="latents of 2000 test images", aspect="equal")
    remade = decoded(model, latents[:16])
    rows = [part for half in (0, 8) for part in (test[half : half + 8], remade[half : half + 8])]
    show(pictures, torch.cat(rows), columns=8, title="test images; under each its reconstruction from two numbers")
    plane.legend(ncols=10, frameon=False, loc="upper center", bbox_to_anchor=(0.5, -0.06), **LEGEND)
    say(f"  standard deviation of the latents over 10 000 test images: {numbers(latents.std(0))}")
    return figure
