"""Padding: images whose sides a model does not take get more rows and columns, and lose them again."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from typing import Literal

import torch
from torch import Tensor

from model_store.vae.family import FamilyConfig, ImageShape
from model_store.vae.sentences import counted

from ..errors import BadValue

Fit = Literal["none", "pad"]
Size = tuple[int, int]
"""Height and width of an image."""


def are_padded(fit: Fit, config: FamilyConfig) -> bool:
    """Whether images keep their size until they are padded; a model of one size has no other to pad them to."""
    return fit == "pad" and config.takes_any_size


def padded(pixels: Tensor, height: int, width: int) -> Tensor:
    """Pixels (B, C, height, width): the last row and column of smaller ones (B, C, H, W) are repeated.

    An edge of another colour would show in the latents of its neighbours.
    """
    if pixels.shape[2:] == (height, width):
        return pixels
    rows = torch.arange(height).clamp(max=pixels.shape[2] - 1)
    columns = torch.arange(width).clamp(max=pixels.shape[3] - 1)
    return pixels[:, :, rows[:, None], columns]


def sizes_for(sizes: Sequence[Size], shapes: Sequence[ImageShape]) -> list[Size]:
    """The original size of each image (C, H, W); one size is that of all images.

    Raises:
        BadValue: there are more or fewer sizes than images, or a size is larger than its image.
    """
    if len(sizes) not in (1, len(shapes)):
        raise BadValue(
            f"There are {len(sizes)} original sizes for {counted(len(shapes), 'images')}; send one for each, or one "
            "for all: the X-Original-Size of the answer that gave these latents."
        )
    each = [*sizes] * (len(shapes) if len(sizes) == 1 else 1)
    for (height, width), (_, image_height, image_width) in zip(each, shapes, strict=True):
        if height > image_height or width > image_width:
            raise BadValue(
                f"The original size {height}×{width} is larger than the images, which are "
                f"{image_height}×{image_width}; send the X-Original-Size of the answer that gave these latents."
            )
    return each


def cropped(images: Tensor, size: Sequence[int]) -> Tensor:
    """The first rows and columns of images (B, C, H, W), as many as `size` (height, width) says."""
    height, width = size
    return images[:, :, :height, :width].contiguous()


def cropped_runs(images: Tensor, sizes: Sequence[Size]) -> list[Tensor]:
    """Images (B, C, H, W), each cut to its size (height, width): a tensor for each run of images of the same size."""
    runs, first = [], 0
    for size, run in groupby(sizes):
        count = len([*run])
        runs.append(cropped(images[first : first + count], size))
        first += count
    return runs
