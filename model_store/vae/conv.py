"""Residual convolutional encoder and decoder, for latent vectors and latent grids.

Strided convolutions change the resolution and residual blocks work at it (He et al. 2016, "Identity mappings in deep
residual networks": activation before weight). There is no normalisation, so an image's answer owes nothing to the
others; instead each block starts as the identity (its last convolution at zero), which keeps deep stacks trainable.
"""

from __future__ import annotations

from itertools import pairwise
from math import prod

from torch import Tensor, nn
from torch.nn import functional as F

from .config import ConvConfig, VAEConfig
from .linear import Linear


class ResidualBlock(nn.Module):
    """x + f(x), with f two 3×3 convolutions; the identity when training begins. (B, width, h, w) stays so."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(width, width, kernel_size=3, padding=1)
        self.second = nn.Conv2d(width, width, kernel_size=3, padding=1)
        for parameter in self.second.parameters():
            nn.init.zeros_(parameter)

    def forward(self, features: Tensor) -> Tensor:
        """(B, width, h, w) → the same shape."""
        change: Tensor = self.second(F.silu(self.first(F.silu(features))))
        return features + change


class ConvEncoder(nn.Module):
    """Images → what the posterior is made of, side by side along dimension 1."""

    def __init__(self, config: VAEConfig, network: ConvConfig) -> None:
        super().__init__()
        channels = (config.image_shape[0], *network.widths)
        self.stages = nn.Sequential(*(_down(i, o, network.blocks) for i, o in pairwise(channels)))
        self.head = _encoder_head(config, network)

    def forward(self, images: Tensor) -> Tensor:
        """(B, C, H, W) → (B, encoder_channels, …)."""
        features = self.stages(images)  # (B, widths[-1], H/reduction, W/reduction)
        parameters: Tensor = self.head(F.silu(features))  # (B, outputs) or (B, outputs, H/reduction, W/reduction)
        return parameters


class ConvDecoder(nn.Module):
    """Latents → the numbers of each pixel, which the likelihood interprets."""

    def __init__(self, config: VAEConfig, network: ConvConfig) -> None:
        super().__init__()
        channels = (*network.widths[::-1], config.decoder_channels)
        self.head = _decoder_head(config, network)
        self.stages = nn.Sequential(*(_up(i, o, network.blocks) for i, o in pairwise(channels)))

    def forward(self, latents: Tensor) -> Tensor:
        """(B, *latent_shape) → (B, decoder_channels, H, W)."""
        features = self.head(latents)  # (B, widths[-1], H/reduction, W/reduction)
        numbers: Tensor = self.stages(features)  # (B, decoder_channels, H, W)
        return numbers


def _down(width_in: int, width_out: int, blocks: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(width_in, width_out, kernel_size=4, stride=2, padding=1),
        *(ResidualBlock(width_out) for _ in range(blocks)),
    )


def _up(width_in: int, width_out: int, blocks: int) -> nn.Sequential:
    return nn.Sequential(
        *(ResidualBlock(width_in) for _ in range(blocks)),
        nn.SiLU(),
        nn.ConvTranspose2d(width_in, width_out, kernel_size=4, stride=2, padding=1),
    )


def _encoder_head(config: VAEConfig, network: ConvConfig) -> nn.Module:
    outputs = config.encoder_channels
    if network.hidden is None:
        return nn.Conv2d(network.widths[-1], outputs, kernel_size=1)
    flat = prod(_smallest_map(config, network))
    return nn.Sequential(nn.Flatten(), Linear(flat, network.hidden), nn.SiLU(), Linear(network.hidden, outputs))


def _decoder_head(config: VAEConfig, network: ConvConfig) -> nn.Module:
    inputs = config.latent_shape[0]
    if network.hidden is None:
        return nn.Conv2d(inputs, network.widths[-1], kernel_size=1)
    smallest = _smallest_map(config, network)
    return nn.Sequential(
        Linear(inputs, network.hidden),
        nn.SiLU(),
        Linear(network.hidden, prod(smallest)),
        nn.Unflatten(1, smallest),
    )


def _smallest_map(config: VAEConfig, network: ConvConfig) -> tuple[int, int, int]:
    _, height, width = config.image_shape
    return (network.widths[-1], height // network.reduction, width // network.reduction)
