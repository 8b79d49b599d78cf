"""Tiling: a picture that is too large for the device's memory is computed in tiles, which overlap.

Where each value of a network's output depends on a bounded neighbourhood of its input, tiles with that much overlap
give the whole picture's answer, but for rounding. A network may have a stage in the middle, at its lowest resolution,
that depends on the whole picture, such as a group normalisation: that stage is computed at once, on the features of all
tiles. For other networks the tiles are blended where they overlap, and the answer is not exact.
"""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Iterator
from itertools import product
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from model_store.vae.family import FamilyConfig, ImageShape

from ..compute.rows import Rows
from ..compute.torch_runtime import ForwardPass
from ..errors import BadValue, TooLarge

BLENDED_OVERLAP = 128  # pixels, of networks whose neighbourhood is not bounded
SMALLEST = 64  # pixels of a tile's side without its overlap

Compute = Callable[[Tensor], Awaitable[Tensor]]
Forward = Callable[[ForwardPass, Tensor], Awaitable[Rows]]


class TileWish(NamedTuple):
    """The wish of a client: the side of a tile in pixels, or when to tile; and the overlap in pixels."""

    side: int | Literal["auto", "never"] = "auto"
    overlap: int | None = None


class Grid(NamedTuple):
    """How a picture is tiled: the sides of a tile without its overlap, and the pixels that it takes from each side."""

    height: int
    width: int
    halo: int
    rows: int
    columns: int
    is_exact: bool

    @property
    def text(self) -> str:
        """The words of the header `X-Tiling`."""
        return f"{self.rows}x{self.columns}; overlap={2 * self.halo}; exact={'true' if self.is_exact else 'false'}"

    def read_shape(self, image_shape: ImageShape) -> ImageShape:
        """The shape (C, H, W) of the part of an image that each tile reads."""
        channels, height, width = image_shape
        return channels, min(height, self.height + 2 * self.halo), min(width, self.width + 2 * self.halo)


class Window(NamedTuple):
    """A part of a side: the places that a tile reads, the part of these that it answers for, and where that belongs."""

    read: slice
    kept: slice
    place: slice

    def in_units(self, unit_in: int, unit_out: int) -> Window:
        """The window in values of which each stands for `unit_out` pixels instead of `unit_in`."""
        return Window(*(slice(part.start * unit_in // unit_out, part.stop * unit_in // unit_out) for part in self))


def grid_of(config: FamilyConfig, image_shape: ImageShape, wish: TileWish, most_bytes: int) -> Grid | None:
    """The tiles of an image (C, H, W); None if it is computed at once.

    Raises:
        TooLarge: it does not fit into `most_bytes`, in tiles or at once where the client forbids tiles.
        BadValue: the client asks for tiles of a model of one size, or for tiles that are too small.
    """
    _, height, width = image_shape
    needed = config.activation_bytes_of(image_shape)
    if wish.side == "never" or (wish.side == "auto" and needed <= most_bytes) or not config.takes_any_size:
        if isinstance(wish.side, int):
            raise BadValue("The model takes one size only and is never tiled; leave out tile.")
        if needed > most_bytes and config.takes_any_size:
            raise _too_large("The image at once", needed, most_bytes, "leave out tile=never")
        return None
    halo = _halo(config, wish.overlap)
    if isinstance(wish.side, int):
        side = wish.side // config.multiple * config.multiple
        if side < min(SMALLEST, height, width):
            raise BadValue(f"A tile of {side} pixels is too small; ask for {SMALLEST} or more.")
        grid = _grid(config, image_shape, halo, -(-height // side), -(-width // side))
    else:
        grid = _cheapest_grid(config, image_shape, halo, most_bytes)
    if (least := config.activation_bytes_of(grid.read_shape(image_shape))) > most_bytes:
        raise _too_large("A tile of the image", least, most_bytes, "raise max_compute_bytes where the service starts")
    if (middle := config.middle_bytes_of(image_shape)) > most_bytes:
        raise _too_large(
            "The middle stage of the image", middle, most_bytes, "send it smaller, or raise max_compute_bytes"
        )
    return grid


def smaller_grid(config: FamilyConfig, image_shape: ImageShape, grid: Grid | None) -> Grid | None:
    """Tiles of half the sides, or of half the image, after memory has run out; None if they would be too small."""
    _, height, width = image_shape
    tile = (grid.height, grid.width) if grid else (height, width)
    if max(tile) < 2 * SMALLEST or not config.takes_any_size:
        return None
    rows, columns = (
        max(1, -(-length // max(SMALLEST, side // 2))) for length, side in zip((height, width), tile, strict=True)
    )
    return _grid(config, image_shape, grid.halo if grid else _halo(config, None), rows, columns)


def _grid(config: FamilyConfig, image_shape: ImageShape, halo: int, rows: int, columns: int) -> Grid:
    """A grid of equal tiles, as many as asked for or fewer; their sides are multiples of the downscale."""
    _, height, width = image_shape
    tile_height, tile_width = (
        -(-length // (count * config.multiple)) * config.multiple
        for length, count in ((height, rows), (width, columns))
    )
    is_exact = config.halo is not None and halo >= config.halo
    return Grid(tile_height, tile_width, halo, -(-height // tile_height), -(-width // tile_width), is_exact)


def _cheapest_grid(config: FamilyConfig, image_shape: ImageShape, halo: int, most_bytes: int) -> Grid:
    """The tiles that compute the fewest pixels, overlaps included, of the tiles that fit into the memory.

    If none fits, they are the smallest tiles.
    """
    channels, height, width = image_shape
    pixel_bytes = config.activation_bytes_of((channels, config.multiple, config.multiple)) / config.multiple**2
    most_rows, most_columns = (-(-length // SMALLEST) for length in (height, width))
    cheapest = _grid(config, image_shape, halo, most_rows, most_columns)
    least = math.inf
    for rows in range(1, most_rows + 1):
        tile_height = -(-height // rows)
        room = int(most_bytes / (pixel_bytes * min(height, tile_height + 2 * halo)))  # for the width that a tile reads
        tile_width = width if room >= width else (room - 2 * halo) // config.multiple * config.multiple
        if tile_width < min(SMALLEST, width):
            continue
        grid = _grid(config, image_shape, halo, rows, -(-width // tile_width))  # fewer columns would not fit
        read = grid.read_shape(image_shape)
        cost = grid.rows * grid.columns * read[1] * read[2]
        if cost < least and config.activation_bytes_of(read) <= most_bytes:
            cheapest, least = grid, cost
    return cheapest


def _too_large(what: str, needed: int, limit: int, remedy: str) -> TooLarge:
    return TooLarge(what, size=needed, limit=limit, unit="bytes of memory while it is computed", remedy=remedy)


def _halo(config: FamilyConfig, overlap: int | None) -> int:
    """The pixels that a tile takes from each side: half of the overlap, in multiples of the downscale."""
    if overlap is None:
        return config.halo or BLENDED_OVERLAP // 2 // config.multiple * config.multiple
    return -(-(overlap // 2) // config.multiple) * config.multiple


def windows(length: int, side: int, halo: int) -> Iterator[Window]:
    """The windows of one side of a picture. All read equally much, so that tiles share kernels and batches."""
    most = min(length, side + 2 * halo)
    for first in range(0, length, side):
        last = min(first + side, length)
        start = min(max(first - halo, 0), length - most)
        yield Window(slice(start, start + most), slice(first - start, last - start), slice(first, last))


async def in_tiles(compute: Compute, rows: Tensor, grid: Grid, unit_in: int, unit_out: int) -> Tensor:
    """The output (1, C', H', W') of a function for an input (1, C, H, W), computed in the tiles of a grid.

    A value of the input stands for `unit_in` pixels of the picture, and a value of the output for `unit_out`. A tile
    whose overlap covers the neighbourhood is cut; the others are blended.
    """
    height, width = (side * unit_in // unit_out for side in rows.shape[2:])
    whole, weights = torch.empty(0), torch.zeros(height, width)
    tile_sides = zip(rows.shape[2:], (grid.height, grid.width), strict=True)
    for row, column in product(*(windows(side, tile // unit_in, grid.halo // unit_in) for side, tile in tile_sides)):
        tile = await compute(rows[:, :, row.read, column.read].contiguous())
        if not whole.numel():
            kind = tile.dtype if grid.is_exact else torch.float32
            whole = torch.zeros(*tile.shape[:2], height, width, dtype=kind)
        rows_out, columns_out = row.in_units(unit_in, unit_out), column.in_units(unit_in, unit_out)
        if grid.is_exact:
            kept = tile[:, :, rows_out.kept, columns_out.kept]
            whole[:, :, rows_out.place, columns_out.place] = kept
            continue
        overlap = 2 * grid.halo // unit_out
        weight = torch.outer(ramp(rows_out.read, height, overlap), ramp(columns_out.read, width, overlap))
        whole[:, :, rows_out.read, columns_out.read] += tile * weight
        weights[rows_out.read, columns_out.read] += weight
    if grid.is_exact:
        return whole
    blended = whole / weights
    return blended.round().to(torch.uint8) if tile.dtype == torch.uint8 else blended


def ramp(part: slice, length: int, overlap: int) -> Tensor:
    """The weight of each place of a tile: it rises over the overlap, but not at the edge of the picture."""
    size = part.stop - part.start
    places = torch.arange(size, dtype=torch.float32) + 0.5
    rising = places if part.start > 0 else torch.full((size,), torch.inf)
    falling = size - places if part.stop < length else torch.full((size,), torch.inf)
    return (torch.minimum(rising, falling) / max(overlap, 1)).clamp(max=1)


async def encode_in_tiles(forward: Forward, config: FamilyConfig, pixels: Tensor, grid: Grid) -> Rows:
    """The outputs of `encode` for uint8 pixels (B, C, H, W), image by image."""
    name: ForwardPass = "encode" if config.halo is None else "encode_local"

    async def compute(tile: Tensor) -> Tensor:
        return torch.cat(await forward(name, tile), dim=1)

    outputs = []
    for index in range(len(pixels)):
        tiled = await in_tiles(compute, pixels[index : index + 1], grid, 1, config.multiple)
        outputs.append(tiled if config.halo is None else torch.cat(await forward("encode_whole", tiled), dim=1))
    rows = torch.cat(outputs)
    return (rows,) if config.is_posterior_a_point else rows.chunk(2, dim=1)


async def decode_in_tiles(
    forward: Forward, config: FamilyConfig, latents: Tensor, grid: Grid, *, is_rendered: bool
) -> Tensor:
    """Images (B, C, H, W) of latents, image by image: uint8 if they are rendered, else float32 in [0, 1]."""
    whole: ForwardPass = "render" if is_rendered else "decode"
    local: ForwardPass = "render_local" if is_rendered else "decode_local"

    async def compute(tile: Tensor) -> Tensor:
        (images,) = await forward(whole if config.halo is None else local, tile)
        return images

    images = []
    for index in range(len(latents)):
        row = latents[index : index + 1]
        if config.halo is not None:
            (row,) = await forward("decode_whole", row)
        images.append(await in_tiles(compute, row, grid, config.multiple, 1))
    return torch.cat(images)
