"""Strips: the rows of a large map go through some layers one part after the other.

The layers then need no maps of their own, which take memory, and time: the system fills new memory with zeros. Figures
are in docs/decisions/0014-sums-in-float32.md.
"""

from __future__ import annotations

from collections.abc import Iterator
from math import ceil

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..device import dtype_of
from .winograd import WinogradConv2d

_STRIP_NUMBERS = 2**21  # 4 MiB in bfloat16, 8 in float32; in maps so wide that these are few rows, it is more
# 64 MiB in float32. TAEF2's encoder then takes 193 MiB for 1024×1024 where it took 367, and 439 for 2048×2048 where it
# took 1358, in 1 to 9 % more time (bfloat16 and float32; two cores of an AMD EPYC, November 2026).
_STAGE_NUMBERS = 2**24
_LEAST_ROWS = 8  # more than the convolutions of a chain: each gives a row less of the first strip


def strips_of(features: Tensor, least_rows: int = _LEAST_ROWS) -> list[slice]:
    """The rows of each strip of maps (B, C, h, w): all rows where a map is small, or on a GPU."""
    _, channels, height, width = features.shape
    count = ceil(channels * height * width / _STRIP_NUMBERS) if features.device.type == "cpu" else 1
    rows = max(least_rows, ceil(height / count))
    return [slice(top, min(top + rows, height)) for top in range(0, height, rows)]


def convolved_in_strips(layers: nn.Sequential, features: Tensor) -> Iterator[tuple[slice, Tensor]]:
    """The outputs of 3×3 convolutions (`is_plain_3x3`) with activations between, and their rows, strip by strip.

    A convolution reads one row below the row that it computes, so that each one gives its outputs a row later than the
    one before. The rows of the features for which outputs came are not read again: the caller may change them.
    """
    kind, done = dtype_of(layers), 0
    # Above and below a map there is a row of zeros; between two strips, the last two rows of the first are read again.
    above = {layer: _no_row(layer, features, kind) for layer in layers if isinstance(layer, nn.Conv2d)}
    for strip in strips_of(features):
        change = features[:, :, strip].to(kind)
        for layer in layers:
            if not isinstance(layer, nn.Conv2d):
                change = layer(change)
                continue
            below = [_no_row(layer, features, kind)] if strip.stop == features.shape[2] else []
            rows = torch.cat([above[layer], change, *below], 2)
            above[layer] = rows[:, :, -2:].clone()
            change = _convolved_inside(layer, rows)
        yield slice(done, done + change.shape[2]), change
        done += change.shape[2]


def halved_in_strips(layers: nn.Module, features: Tensor, width: int, halo: int) -> Tensor:
    """The outputs (B, width, h/2, w/2) of layers between which there are maps (B, width, h, w), never as a whole.

    An output depends on at most `halo` rows more on each side, which each strip computes again. All of h, w and `halo`
    are even.
    """
    count, _, height, across = features.shape
    numbers = width * height * across
    if features.device.type != "cpu" or numbers <= _STAGE_NUMBERS:
        halved: Tensor = layers(features)
        return halved
    outputs = features.new_empty(count, height // 2, across // 2, width).permute(0, 3, 1, 2)
    rows = 2 * ceil(height / ceil(numbers / _STAGE_NUMBERS) / 2)
    for top in range(0, height, rows):
        above = min(halo, top)
        part = layers(features[:, :, top - above : top + rows + halo])
        outputs[:, :, top // 2 : (top + rows) // 2] = part[:, :, above // 2 : (above + rows) // 2]
    return outputs


def _convolved_inside(layer: nn.Conv2d, rows: Tensor) -> Tensor:
    """The outputs (B, C', h - 2, w) of rows (B, C, h, w) that have a row above them and a row below."""
    if isinstance(layer, WinogradConv2d):
        return layer.forward_inside(rows)
    return F.conv2d(rows, layer.weight, layer.bias, padding=(0, 1))


def _no_row(layer: nn.Conv2d, features: Tensor, kind: torch.dtype) -> Tensor:
    zeros = features.new_zeros(len(features), 1, features.shape[3], layer.in_channels, dtype=kind)
    return zeros.permute(0, 3, 1, 2)
