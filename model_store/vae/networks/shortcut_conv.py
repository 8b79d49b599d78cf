"""Residual convolutional encoder and decoder for pictures, for latent vectors and latent grids.

The network has the blocks of `conv.py`. All its convolutions keep straight lines (`straight_lines.py`), so that a
picture gets no checkerboard, and a gradient no frame. There is no normalisation, and an activation is between every two
convolutions.

Halvings and doublings have shortcuts without weights (Chen et al. 2024, "Deep compression autoencoder for efficient
high-resolution diffusion models", residual autoencoding): squares of four values become channels, which are averaged in
groups to the wanted number. Back, channels are averaged in groups and interpolated between their places; the paper
repeats channels and brings them into squares, which turns a straight line into stairs.
"""

from __future__ import annotations

from collections import OrderedDict
from functools import partial
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn.functional import conv2d, silu

from ..config import VALUES_OF_A_SQUARE, ShortcutConvConfig, VAEConfig
from .conv import ResidualBlock
from .heads import from_latent, to_latent
from .straight_lines import Doubling, ExtendedConv2d, linear_interpolation


class ShortcutHalving(nn.Module):
    """A convolution, and squares of 2×2 values as channels: (B, C, h, w) → (B, C', h/2, w/2), where C' divides 4C."""

    def __init__(self, channels_in: int, channels_out: int) -> None:
        super().__init__()
        self.channels_in, self.channels_out = channels_in, channels_out
        self.convolution = ExtendedConv2d(channels_in, channels_out, kernel_size=4, stride=2)

    def forward(self, features: Tensor) -> Tensor:
        """(B, C, h, w) → (B, C', h/2, w/2)."""
        change: Tensor = self.convolution(silu(features))
        return change + conv2d(features, self.shortcut().to(features), stride=2)

    def shortcut(self) -> Tensor:
        """The means of groups of values in squares as a convolution (C', C, 2, 2) with a stride of 2."""
        values = VALUES_OF_A_SQUARE * self.channels_in
        means = torch.eye(values, device=self.convolution.weight.device).view(self.channels_out, -1, values).mean(1)
        return means.view(self.channels_out, self.channels_in, 2, 2)


class ShortcutDoubling(Doubling):
    """Twice the resolution, with interpolated means of channels added: (B, C, h, w) → (B, C', 2h, 2w), C' divides C."""

    def forward(self, features: Tensor) -> Tensor:  # type: ignore[override]  # as in `Doubling`
        """(B, C, h, w) → (B, C', 2h, 2w)."""
        means = conv2d(features, self.shortcut().to(features))
        return super().forward(torch.cat([silu(features), means], 1))

    def kernel(self) -> Tensor:
        """The kernel (C + C', C', 6, 6) of the activated features and of the means."""
        learned = super().kernel()
        same = torch.eye(self.out_channels, device=learned.device)
        interpolation = same[:, :, None, None] * linear_interpolation(learned.device)
        return torch.cat([learned, interpolation.to(learned.dtype)])

    def shortcut(self) -> Tensor:
        """The means of groups of channels as a convolution (C', C, 1, 1)."""
        same = torch.eye(self.in_channels, device=self.weight.device)
        return same.view(self.out_channels, -1, self.in_channels).mean(1)[:, :, None, None]


class ShortcutConvEncoder(nn.Sequential):
    """Images → mean and log-variance side by side, or a point: (B, C, H, W) → (B, encoder_channels, …)."""

    def __init__(self, config: VAEConfig, network: ShortcutConvConfig) -> None:
        first, *_ = network.widths
        stem = ExtendedConv2d(config.image_shape[0], first, kernel_size=4, stride=2)
        stages: list[nn.Module] = [_blocks(first, network.blocks)]
        for width_in, width_out in pairwise(network.widths):
            stages += [ShortcutHalving(width_in, width_out), _blocks(width_out, network.blocks)]
        head = to_latent(config, network)
        super().__init__(OrderedDict(stem=stem, stages=nn.Sequential(*stages), activation=nn.SiLU(), head=head))


class ShortcutConvDecoder(nn.Sequential):
    """Latents → the numbers that the likelihood reads: (B, *latent_shape) → (B, decoder_channels, H, W).

    The head gives the smallest map, (B, widths[-1], H/reduction, W/reduction).
    """

    def __init__(self, config: VAEConfig, network: ShortcutConvConfig) -> None:
        *_, last = widths = network.widths[::-1]
        stages: list[nn.Module] = []
        for width_in, width_out in pairwise(widths):
            stages += [_blocks(width_in, network.blocks), ShortcutDoubling(width_in, width_out)]
        stages += [_blocks(last, network.blocks)]
        head, pixels = from_latent(config, network), Doubling(last, config.decoder_channels, is_smooth=True)
        super().__init__(OrderedDict(head=head, stages=nn.Sequential(*stages), activation=nn.SiLU(), pixels=pixels))


def _blocks(width: int, count: int) -> nn.Sequential:
    convolution = partial(ExtendedConv2d, kernel_size=3)
    return nn.Sequential(*(ResidualBlock(width, convolution) for _ in range(count)))
