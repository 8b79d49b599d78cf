"""Padding: images whose sides a model does not take get more rows and columns, and lose them again."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from ..errors import BadValue

Fit = Literal["none", "pad"]


def padded(pixels: Tensor, height: int, width: int) -> Tensor:
    """Pixels (B, C, height, width): the last row and column of smaller ones (B, C, H, W) are repeated.

    An edge of another colour would show in the latents of its neighbours.
    """
    if pixels.shape[2:] == (height, width):
        return pixels
    rows = torch.arange(height).clamp(max=pixels.shape[2] - 1)
    columns = torch.arange(width).clamp(max=pixels.shape[3] - 1)
    return pixels[:, :, rows][:, :, :, columns]


def cropped(images: Tensor, size: Sequence[int]) -> Tensor:
    """The first rows and columns of images (B, C, H, W), as many as `size` (height, width) says.

    Raises:
        BadValue: the images are smaller.
    """
    height, width = size
    if height > images.shape[2] or width > images.shape[3]:
        raise BadValue(
            f"The original size {height}×{width} is larger than the images, which are "
            f"{images.shape[2]}×{images.shape[3]}; send the X-Original-Size of the answer that gave these latents."
        )
    return images[:, :, :height, :width].contiguous()
