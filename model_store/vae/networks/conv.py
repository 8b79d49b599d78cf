"""Residual convolutional encoder and decoder, for latent vectors and latent grids.

Strided convolutions change the resolution and residual blocks work at it (He et al. 2016, "Identity mappings in deep
residual networks": activation before weight). There is no normalisation, so that the answer for an image does not
depend on the other images of a batch. Instead each block starts as the identity (its last convolution is zero), which
keeps deep networks trainable.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from functools import partial
from itertools import pairwise

from torch import Tensor, nn

from ..config import ConvConfig, VAEConfig
from .heads import from_latent, to_latent

_WITH_ZEROS_AROUND = partial(nn.Conv2d, kernel_size=3, padding=1)


class ResidualBlock(nn.Sequential):
    """x + f(x), where f is two 3×3 convolutions and zero when training begins: (B, width, h, w) → the same shape."""

    def __init__(self, width: int, convolution: Callable[[int, int], nn.Conv2d] = _WITH_ZEROS_AROUND) -> None:
        first, second = convolution(width, width), convolution(width, width)
        for parameter in second.parameters():
            nn.init.zeros_(parameter)
        super().__init__(OrderedDict(activation_1=nn.SiLU(), first=first, activation_2=nn.SiLU(), second=second))

    def forward(self, features: Tensor) -> Tensor:
        """(B, width, h, w) → the same shape."""
        change: Tensor = super().forward(features)  # type: ignore[no-untyped-call]  # torch has no annotation for it
        # the sum has the memory order of its first operand: that of a convolution's output, which is the fastest
        return change + features


class ConvEncoder(nn.Sequential):
    """Images → mean and log-variance side by side, or a point: (B, C, H, W) → (B, encoder_channels, …)."""

    def __init__(self, config: VAEConfig, network: ConvConfig) -> None:
        channels = (config.image_shape[0], *network.widths)
        stages = nn.Sequential(*(_down(i, o, network.blocks) for i, o in pairwise(channels)))
        super().__init__(OrderedDict(stages=stages, activation=nn.SiLU(), head=to_latent(config, network)))


class ConvDecoder(nn.Sequential):
    """Latents → the numbers that the likelihood reads: (B, *latent_shape) → (B, decoder_channels, H, W).

    The head gives the smallest map, (B, widths[-1], H/reduction, W/reduction).
    """

    def __init__(self, config: VAEConfig, network: ConvConfig) -> None:
        channels = (*network.widths[::-1], config.decoder_channels)
        head = from_latent(config, network)
        stages = nn.Sequential(*(_up(i, o, network.blocks) for i, o in pairwise(channels)))
        super().__init__(OrderedDict(head=head, stages=stages))


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
