"""TAEF2 as its authors compute it: the plain rival of our network, written from the published table of layers.

The table is that of madebyollin/taesd (`taesd.py`, MIT licence, read in November 2026): each layer has the number that
it has there, so that the published files fit. Nothing saves memory or time here, as nothing does there.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn

LATENT_CHANNELS, WIDTH, GROUPS = 32, 64, 4


class Halves(NamedTuple):
    """Images (1, 3, H, W) in [0, 1] to latents (1, 32, H/8, W/8), and back."""

    encoder: nn.Sequential
    decoder: nn.Sequential


def read(folder: Path) -> Halves:
    """The published weights in float32."""
    halves = Halves(_encoder(), _decoder())
    for half, name in zip(halves, ("taef2_encoder.pth", "taef2_decoder.pth"), strict=True):
        half.load_state_dict(torch.load(folder / name, map_location="cpu", weights_only=True))
        half.eval()
    return halves


class _Block(nn.Module):
    def __init__(self, *, has_norm: bool = False) -> None:
        super().__init__()
        self.conv = nn.Sequential(_conv(), nn.ReLU(), _conv(), nn.ReLU(), _conv())
        self.pool: nn.Module | None = None
        if has_norm:
            wide = GROUPS * WIDTH
            widen, narrow = nn.Conv2d(WIDTH, wide, 1, bias=False), nn.Conv2d(wide, WIDTH, 1, bias=False)
            self.pool = nn.Sequential(widen, nn.GroupNorm(GROUPS, wide), nn.ReLU(inplace=True), narrow)

    def forward(self, features: Tensor) -> Tensor:
        if self.pool is not None:
            features = features + self.pool(features)
        return torch.relu(self.conv(features) + features)


class _Squash(nn.Module):
    def forward(self, latents: Tensor) -> Tensor:
        return torch.tanh(latents / 3) * 3


def _encoder() -> nn.Sequential:
    return nn.Sequential(
        *(_conv(3, WIDTH), _Block()),
        *(_conv(stride=2, bias=False), _Block(), _Block(), _Block()),
        *(_conv(stride=2, bias=False), _Block(), _Block(), _Block()),
        *(_conv(stride=2, bias=False), *(_Block(has_norm=True) for _ in range(3))),
        _conv(WIDTH, LATENT_CHANNELS),
    )


def _decoder() -> nn.Sequential:
    return nn.Sequential(
        *(_Squash(), _conv(LATENT_CHANNELS, WIDTH), nn.ReLU()),
        *(*(_Block(has_norm=True) for _ in range(3)), nn.Upsample(scale_factor=2), _conv(bias=False)),
        *(_Block(), _Block(), _Block(), nn.Upsample(scale_factor=2), _conv(bias=False)),
        *(_Block(), _Block(), _Block(), nn.Upsample(scale_factor=2), _conv(bias=False)),
        *(_Block(), _conv(WIDTH, 3)),
    )


def _conv(channels_in: int = WIDTH, channels_out: int = WIDTH, *, stride: int = 1, bias: bool = True) -> nn.Conv2d:
    return nn.Conv2d(channels_in, channels_out, kernel_size=3, stride=stride, padding=1, bias=bias)
