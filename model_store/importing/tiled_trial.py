"""The trial of blended tiles: pictures are computed in tiles too, to see how well tiles agree with whole pictures."""

from __future__ import annotations

from collections.abc import Callable
from itertools import product
from typing import NamedTuple

import torch
from torch import Tensor

from ..families import Network
from ..tiles import Mosaic, blended_halo, windows

_TILES = 2  # along each side


class Tiled(NamedTuple):
    """A picture in tiles: its latents, the images of the whole picture's latents, and the pixels that tiles share."""

    latents: Tensor
    images: Tensor
    overlap: int


@torch.inference_mode()
def in_tiles(model: Network, images: Tensor, latents: Tensor) -> Tiled | None:
    """Compute a picture (1, C, H, W) and its latents (1, D, h, w) in tiles; None if a tile would read all of it.

    A tile takes from each side as many pixels as a service's tiles do, but at most a quarter of its own.
    """
    multiple = model.config.multiple
    sides = [-(-length // (_TILES * multiple)) * multiple for length in images.shape[2:]]
    halo = max(min(blended_halo(multiple), min(sides) // 4) // multiple, 1) * multiple
    if all(side + 2 * halo >= length for side, length in zip(sides, images.shape[2:], strict=True)):
        return None

    def tiled(compute: Callable[[Tensor], Tensor], rows: Tensor, unit_in: int, unit_out: int) -> Tensor:
        """The output for rows of which each value stands for `unit_in` pixels, in values of `unit_out` pixels."""
        height, width = (length * unit_in // unit_out for length in rows.shape[2:])
        mosaic = Mosaic(height, width, 2 * halo // unit_out)
        lengths = zip(rows.shape[2:], sides, strict=True)
        for row, column in product(*(windows(length, side // unit_in, halo // unit_in) for length, side in lengths)):
            tile = compute(rows[:, :, row.read, column.read].contiguous())
            mosaic.lay(tile, row.in_units(unit_in, unit_out), column.in_units(unit_in, unit_out))
        return mosaic.whole()

    tiled_latents = tiled(lambda tile: model.encode(tile).mean, images, 1, multiple)
    tiled_images = tiled(lambda tile: model.decode(tile).mean, latents, multiple, 1)
    return Tiled(tiled_latents, tiled_images, 2 * halo)
