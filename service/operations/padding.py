"""Padding: images whose sides a model does not take get more rows and columns, and lose them again."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from model_store.vae.family import ImageShape

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
    return pixels[:, :, rows[:, None], columns]


def check_size(size: Sequence[int], shapes: Sequence[ImageShape]) -> None:
    """Raise BadValue if an original size (height, width) is larger than one of the images (C, H, W)."""
    height, width = size
    for _, image_height, image_width in shapes:
        if height > image_height or width > image_width:
            raise BadValue(
                f"The original size {height}×{width} is larger than the images, which are "
                f"{image_height}×{image_width}; send the X-Original-Size of the answer that gave these latents."
            )


def cropped(images: Tensor, size: Sequence[int]) -> Tensor:
    """The first rows and columns of images (B, C, H, W), as many as `size` (height, width) says."""
    height, width = size
    return images[:, :, :height, :width].contiguous()
