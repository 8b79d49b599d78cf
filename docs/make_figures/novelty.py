"""Idea 7: samples, and their distance to the nearest training image."""

from __future__ import annotations

import torch
from matplotlib.figure import Figure
from torch import Tensor

from model_store.vae.pixels import to_images
from training.console import say
from training.evaluate.novelty import nearest

from .material import Material
from .parts import samples, show


def novelty(material: Material) -> Figure:
    """Samples of mnist@1 with their nearest training images, and a histogram of the distances."""
    pixels, train = samples(material.shipped, 1000), material.images.train
    distances = {
        "samples": nearest(to_images(pixels), train),
        "test images": nearest(to_images(material.images.test[:1000]), train),
    }
    figure = Figure(figsize=(9, 4.6), layout="constrained")
    pictures, histogram = figure.subplots(2, 1, height_ratios=(1, 1.3))
    pairs = torch.cat([pixels[:14], torch.stack([nearest_image(sample, train) for sample in pixels[:14]])])
    show(pictures, pairs, columns=14, title="samples; under each the nearest training image")
    for name, values in distances.items():
        say(f"  {name}: median distance {values.median():.2f}, smallest {values.min():.2f}, largest {values.max():.2f}")
        label = f"1000 {name}, median {values.median():.2f}"
        histogram.hist(values.tolist(), bins=50, range=(0, 12), alpha=0.6, label=label)
    histogram.set(xlabel=f"Euclidean distance to the nearest of {len(train)} training images", ylabel="images")
    histogram.legend(frameon=False)
    return figure


def nearest_image(pixels: Tensor, train: Tensor) -> Tensor:
    """The image of uint8 training pixels (N, C, H, W) that is nearest to `pixels` (C, H, W)."""
    image = to_images(pixels.unsqueeze(0))
    distances = torch.cat([(to_images(part) - image).square().flatten(1).sum(1) for part in torch.split(train, 5000)])
    return train[distances.argmin()]
