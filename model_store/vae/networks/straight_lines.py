"""Layers that keep straight lines straight: a map that goes evenly from one value to another does so behind them too.

A convolution that reads zeros around a map, or values that are repeated, bends each gradient at the edge of a picture:
the picture gets a frame. A doubling of the resolution whose four places of a square have weights of their own turns
a gradient into stairs: the picture gets a checkerboard (Odena, Dumoulin and Olah 2016, "Deconvolution and checkerboard
artifacts"). The layers of this module do neither, with any weights.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import conv_transpose2d, pad

SIDE = 6  # of the kernel of a doubling, as a transposed convolution with a stride of 2
CROP = 4  # of the outputs of such a kernel, on each side of an extended map


def extended(features: Tensor) -> Tensor:
    """A map and a ring of values around it, which continue it in straight lines: (B, C, h, w) → (B, C, h + 2, w + 2).

    A value of the ring is twice the outermost value minus the value before it. Both sides are at least 2.
    """
    wide: Tensor = _Extended.apply(features)  # type: ignore[no-untyped-call]  # torch has no annotation for it
    return wide


class ExtendedConv2d(nn.Conv2d):
    """A convolution of an extended map. With a kernel of 3×3: (B, C, h, w) → (B, C', h, w)."""

    def forward(self, features: Tensor) -> Tensor:
        """(B, C, h, w) → (B, C', h', w')."""
        return super().forward(extended(features))


class Doubling(nn.ConvTranspose2d):
    """An extended map with twice the resolution: (B, C, h, w) → (B, C', 2h, 2w).

    It is a transposed convolution with a kernel of 6×6, of which only the part that keeps straight lines counts. A
    smooth doubling interpolates linearly and then convolves with 4×4 weights, so that it adds no pattern with a period
    of two pixels.
    """

    def __init__(self, channels_in: int, channels_out: int, *, is_smooth: bool = False) -> None:
        super().__init__(channels_in, channels_out, kernel_size=SIDE, stride=2, padding=CROP)
        self.is_smooth = is_smooth

    def forward(self, features: Tensor) -> Tensor:  # type: ignore[override]  # the size of the output is not a choice
        """(B, C, h, w) → (B, C', 2h, 2w)."""
        return conv_transpose2d(extended(features), self.kernel(), self.bias, stride=2, padding=CROP)

    def kernel(self) -> Tensor:
        """The part of the weights that counts: (C, C', 6, 6)."""
        kept = (smooth_part if self.is_smooth else straight_part)(self.weight.device).to(self.weight.dtype)
        return (self.weight.flatten(2) @ kept).view_as(self.weight)

    def kernel_of_places(self) -> Tensor:
        """The kernel as a 3×3 convolution of an extended map, (4C', C, 3, 3): the places of a square are channels."""
        taps = self.kernel().unflatten(3, (3, 2)).unflatten(2, (3, 2))  # (C, C', 3, 2, 3, 2)
        places: Tensor = taps.flip(2, 4).permute(1, 3, 5, 0, 2, 4).flatten(0, 2)
        return places


class _Extended(torch.autograd.Function):
    """`extended` with a gradient that is written in place, in a fifth of the time of pads and slices."""

    @staticmethod
    def forward(ctx: Any, features: Tensor) -> Tensor:  # noqa: ARG004  # torch's signature
        wide = pad(features, (1, 1, 1, 1))
        for rows in (wide[:, :, :, 1:-1], wide.transpose(2, 3)):
            rows[:, :, 0] = 2 * rows[:, :, 1] - rows[:, :, 2]
            rows[:, :, -1] = 2 * rows[:, :, -2] - rows[:, :, -3]
        return wide

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:  # noqa: ARG004  # torch's signature
        whole = gradient.clone()
        for rows in (whole.transpose(2, 3), whole[:, :, :, 1:-1]):
            rows[:, :, 1].add_(rows[:, :, 0], alpha=2)
            rows[:, :, 2].sub_(rows[:, :, 0])
            rows[:, :, -2].add_(rows[:, :, -1], alpha=2)
            rows[:, :, -3].sub_(rows[:, :, -1])
        inside: Tensor = whole[:, :, 1:-1, 1:-1]
        return inside


@cache
@torch.inference_mode(mode=False)  # training needs it too
def straight_part(device: torch.device) -> Tensor:
    """The projection (36, 36) of kernels on the kernels that keep straight lines.

    Each of the four places of a square reads a part of the kernel. Its sum, and its means of the distances across and
    down between the values that it reads and the place, must be equal for all four: these are nine linear conditions.
    """
    conditions = []
    for down in _taps_of_places():
        for across in _taps_of_places():
            sums, moments_down, moments_across = torch.zeros(3, SIDE, SIDE, dtype=torch.float64)
            for row, distance_down in down.items():
                for column, distance_across in across.items():
                    sums[row, column] = 1
                    moments_down[row, column], moments_across[row, column] = distance_down, distance_across
            conditions.append(torch.stack([sums, moments_down, moments_across]).flatten(1))
    first, *others = conditions
    differences = torch.cat([other - first for other in others])
    lost: Tensor = torch.linalg.pinv(differences) @ differences
    return (torch.eye(SIDE**2, dtype=torch.float64) - lost).float().to(device)


@cache
@torch.inference_mode(mode=False)
def smooth_part(device: torch.device) -> Tensor:
    """The projection (36, 36) of kernels on the kernels that interpolate linearly and convolve with 4×4 weights."""
    line = torch.tensor([0.5, 1.0, 0.5], dtype=torch.float64)
    interpolation = line[:, None] * line
    places = torch.eye(16, dtype=torch.float64).view(1, 16, 4, 4)
    kernels = conv_transpose2d(places, interpolation.expand(16, 1, 3, 3), groups=16).flatten(2)[0]  # (16, 36)
    kept: Tensor = torch.linalg.pinv(kernels) @ kernels
    return kept.float().to(device)


@cache
@torch.inference_mode(mode=False)
def linear_interpolation(device: torch.device) -> Tensor:
    """The kernel (6, 6) of linear interpolation, which both projections leave as it is."""
    line = torch.tensor([0.0, 0.25, 0.75, 0.75, 0.25, 0.0])
    return (line[:, None] * line).to(device)


def _taps_of_places() -> list[dict[int, float]]:
    """For an even and an odd output, the numbers of the weights that it reads, each with the distance of its input."""
    places = []
    for output in (0, 1):
        centre = output / 2 - 0.25  # of the output, where the inputs are 0, 1, 2, …, and the ring is at -1
        inputs = {tap: (output + CROP - tap) / 2 - 1 for tap in range(SIDE) if (output + CROP - tap) % 2 == 0}
        places.append({tap: place - centre for tap, place in inputs.items()})
    return places
