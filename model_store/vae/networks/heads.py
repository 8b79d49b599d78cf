"""Heads of convolutional networks: between their smallest map and the latents, which are a grid or a vector.

A grid is the smallest map with other channels. A vector has two fully connected layers between it and the map.
"""

from __future__ import annotations

from math import prod

from torch import nn

from ..config import ConvolutionsConfig, VAEConfig


def to_latent(config: VAEConfig, network: ConvolutionsConfig) -> nn.Module:
    """The smallest map (B, widths[-1], h, w) → the numbers of a latent, (B, encoder_channels, …)."""
    outputs = config.encoder_channels
    if network.hidden is None:
        return nn.Conv2d(network.widths[-1], outputs, kernel_size=1)
    flat = prod(network.smallest_map(config.image_shape))
    return nn.Sequential(nn.Flatten(), nn.Linear(flat, network.hidden), nn.SiLU(), nn.Linear(network.hidden, outputs))


def from_latent(config: VAEConfig, network: ConvolutionsConfig) -> nn.Module:
    """A latent (B, *latent_shape) → the smallest map (B, widths[-1], h, w)."""
    inputs = config.latent_shape[0]
    if network.hidden is None:
        return nn.Conv2d(inputs, network.widths[-1], kernel_size=1)
    smallest = network.smallest_map(config.image_shape)
    return nn.Sequential(
        nn.Linear(inputs, network.hidden),
        nn.SiLU(),
        nn.Linear(network.hidden, prod(smallest)),
        nn.Unflatten(1, smallest),
    )
