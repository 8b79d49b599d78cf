"""Tiles: the overlapping parts of a picture that are computed one by one, and the picture that they give again.

Where a tile's overlap covers the neighbourhood on which its values depend, the tile is cut where the next one begins.
Other tiles are blended where they overlap.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

BLENDED_OVERLAP = 128  # pixels, of networks whose neighbourhood is not bounded


def blended_halo(multiple: int) -> int:
    """The pixels that a blended tile takes from each side: half of the overlap, a multiple of the network's."""
    return max(BLENDED_OVERLAP // 2 // multiple, 1) * multiple


class Window(NamedTuple):
    """A part of a side: the places that a tile reads, the part of these that it answers for, and where that belongs."""

    read: slice
    kept: slice
    place: slice

    def in_units(self, unit_in: int, unit_out: int) -> Window:
        """The window in values of which each stands for `unit_out` pixels instead of `unit_in`."""
        return Window(*(slice(part.start * unit_in // unit_out, part.stop * unit_in // unit_out) for part in self))


def windows(length: int, side: int, halo: int) -> Iterator[Window]:
    """The windows of one side of a picture. All read equally much, so that tiles share kernels and batches."""
    most = min(length, side + 2 * halo)
    for first in range(0, length, side):
        last = min(first + side, length)
        start = min(max(first - halo, 0), length - most)
        yield Window(slice(start, start + most), slice(first - start, last - start), slice(first, last))


class Mosaic:
    """A tensor (1, C, H, W) that is put together from tiles (1, C, h, w).

    `overlap` is what blended tiles share, in values of the tensor; None if tiles are cut.
    """

    def __init__(self, height: int, width: int, overlap: int | None) -> None:
        self._sides = height, width
        self._overlap = overlap
        self._sum, self._kind = torch.empty(0), torch.float32
        self._weights = torch.empty(0)

    def lay(self, tile: Tensor, rows: Window, columns: Window) -> None:
        """Put a tile at its place; the windows are in values of the tensor."""
        if not self._sum.numel():
            self._kind = tile.dtype
            kind = tile.dtype if self._overlap is None else torch.float32
            self._sum = torch.zeros(*tile.shape[:2], *self._sides, dtype=kind)
            self._weights = torch.zeros(self._sides if self._overlap is not None else 0)
        if self._overlap is None:
            self._sum[:, :, rows.place, columns.place] = tile[:, :, rows.kept, columns.kept]
            return
        height, width = self._sides
        weight = torch.outer(_ramp(rows.read, height, self._overlap), _ramp(columns.read, width, self._overlap))
        self._sum[:, :, rows.read, columns.read] += tile * weight
        self._weights[rows.read, columns.read] += weight

    @property
    def nbytes(self) -> int:
        """The bytes that `whole` works on."""
        return self._sum.nbytes

    def whole(self) -> Tensor:
        """The tensor, in the type of its tiles. Call it once, after the last tile."""
        if self._overlap is None:
            return self._sum
        blended = self._sum.div_(self._weights)
        return blended.to(self._kind) if self._kind.is_floating_point else blended.round_().to(self._kind)


def _ramp(part: slice, length: int, overlap: int) -> Tensor:
    """The weight of each place of a tile: it rises over the overlap, but not at the edge of the picture."""
    size = part.stop - part.start
    places = torch.arange(size, dtype=torch.float32) + 0.5
    rising = places if part.start > 0 else torch.full((size,), torch.inf)
    falling = size - places if part.stop < length else torch.full((size,), torch.inf)
    return (torch.minimum(rising, falling) / max(overlap, 1)).clamp(max=1)
