"""Tiling: a picture that is too large for the device's memory is computed in tiles, which overlap.

Where each value of a network's output depends on a bounded neighbourhood of its input, tiles with that much overlap
give the whole picture's answer, but for rounding. A network may have a stage in the middle, at its lowest resolution,
that depends on the whole picture, such as a group normalisation: that stage is computed at once, on the features of all
tiles. For other networks the tiles are blended where they overlap, and the answer is not exact.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Awaitable, Callable
from itertools import product
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from model_store.tiles import Mosaic, blended_halo, windows
from model_store.vae.family import FamilyConfig, ImageShape

from ..compute.rows import Rows
from ..compute.torch_runtime import ForwardPass
from ..errors import BadValue, TooLarge
from ..inference.served_model import Cost
from ..offload import offload
from .limits import Limits

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


def grid_of(
    config: FamilyConfig,
    image_shape: ImageShape,
    wish: TileWish,
    cost_of: Callable[[ImageShape], Cost],
    limits: Limits,
) -> Grid | None:
    """The tiles of an image (C, H, W); None if it is computed at once.

    Raises:
        TooLarge: it does not fit into the limits, in tiles or at once where the client forbids tiles.
        BadValue: the client asks for tiles of a model of one size, or for tiles that are too small.
    """
    if not config.takes_any_size:
        if isinstance(wish.side, int) or wish.overlap is not None:
            raise BadValue("The model takes one size only and is never tiled; leave out tile and overlap.")
        return None

    def fits(shape: ImageShape) -> bool:
        size, seconds = cost_of(shape)
        return size <= limits.compute_bytes and seconds <= limits.compute_s

    if not isinstance(wish.side, int) and fits(image_shape):
        return None
    if wish.side == "never":
        raise _too_large("The image at once", cost_of(image_shape), limits, "leave out tile=never")
    halo = _halo(config, wish.overlap)
    if isinstance(wish.side, int):
        grid = _wished_grid(config, image_shape, wish.side, halo)
    else:
        grid = _cheapest_grid(config, image_shape, halo, fits)
    if not fits(grid.read_shape(image_shape)):
        smaller = "send it smaller" if wish == TileWish() else "ask for smaller tiles or less overlap"
        remedy = f"raise max_compute_bytes where the service starts, or {smaller}"
        raise _too_large("A tile of the image", cost_of(grid.read_shape(image_shape)), limits, remedy)
    if (middle := config.middle_bytes_of(image_shape)) > limits.compute_bytes:
        remedy = "send it smaller, or raise max_compute_bytes"
        raise _too_large("The middle stage of the image", Cost(middle, 0.0), limits, remedy)
    return grid if grid.rows * grid.columns > 1 else None


def _wished_grid(config: FamilyConfig, image_shape: ImageShape, side: int, halo: int) -> Grid:
    """Tiles of a side that a client asks for.

    Raises:
        BadValue: they are too small, or share so much that each pixel would be computed many times.
    """
    _, height, width = image_shape
    side = side // config.multiple * config.multiple
    if side < min(SMALLEST, max(height, width)) or not side:
        raise BadValue(f"A tile of {side} pixels is too small; ask for {max(SMALLEST, config.multiple)} or more.")
    if halo > max(2 * side, config.halo or 0):
        raise BadValue(f"Tiles of {side} pixels cannot share {2 * halo}; ask for a smaller overlap or larger tiles.")
    return _grid(config, image_shape, halo, -(-height // side), -(-width // side))


def smaller_grid(config: FamilyConfig, image_shape: ImageShape, grid: Grid | None, wish: TileWish) -> Grid | None:
    """Tiles of half the sides, or of half the image, after memory has run out; None if they cannot be smaller."""
    if not config.takes_any_size:
        return None
    _, height, width = image_shape
    tile = (grid.height, grid.width) if grid else (height, width)
    rows, columns = (-(-length // max(SMALLEST, side // 2)) for length, side in zip((height, width), tile, strict=True))
    smaller = _grid(config, image_shape, grid.halo if grid else _halo(config, wish.overlap), rows, columns)
    return smaller if (smaller.height, smaller.width) < tile else None


def _grid(config: FamilyConfig, image_shape: ImageShape, halo: int, rows: int, columns: int) -> Grid:
    """A grid of equal tiles, as many as asked for or fewer; their sides are multiples of the downscale."""
    _, height, width = image_shape
    tile_height, tile_width = (
        -(-length // (count * config.multiple)) * config.multiple
        for length, count in ((height, rows), (width, columns))
    )
    is_exact = config.halo is not None and halo >= config.halo
    return Grid(tile_height, tile_width, halo, -(-height // tile_height), -(-width // tile_width), is_exact)


def _cheapest_grid(
    config: FamilyConfig, image_shape: ImageShape, halo: int, fits: Callable[[ImageShape], bool]
) -> Grid:
    """The tiles that compute the fewest pixels, overlaps included, of the tiles that fit.

    If none fits, they are the smallest tiles.
    """
    _, height, width = image_shape
    most_rows, most_columns = (-(-length // SMALLEST) for length in (height, width))
    cheapest = _grid(config, image_shape, halo, most_rows, most_columns)
    least = math.inf
    for rows in range(1, most_rows + 1):

        def is_enough(columns: int, rows: int = rows) -> bool:
            return fits(_grid(config, image_shape, halo, rows, columns).read_shape(image_shape))

        # fewer columns would not fit, and more would compute more
        columns = 1 + bisect_left(range(1, most_columns + 1), x=True, key=is_enough)
        grid = _grid(config, image_shape, halo, rows, min(columns, most_columns))
        read = grid.read_shape(image_shape)
        cost = grid.rows * grid.columns * read[1] * read[2]
        if cost < least and fits(read):
            cheapest, least = grid, cost
        if grid.columns == 1 and least < math.inf:
            break  # more rows of whole width compute more
    return cheapest


def _too_large(what: str, cost: Cost, limits: Limits, remedy: str) -> TooLarge:
    if cost.size > limits.compute_bytes:
        unit = "bytes of memory while it is computed"
        return TooLarge(what, size=cost.size, limit=limits.compute_bytes, unit=unit, remedy=remedy)
    unit = "seconds of computation, as the import has measured"
    return TooLarge(what, size=round(cost.seconds), limit=int(limits.compute_s), unit=unit, remedy=remedy)


def _halo(config: FamilyConfig, overlap: int | None) -> int:
    """The pixels that a tile takes from each side: half of the overlap, in multiples of the downscale."""
    if overlap is None:
        return config.halo or blended_halo(config.multiple)
    return -(-(overlap // 2) // config.multiple) * config.multiple


async def in_tiles(compute: Compute, rows: Tensor, grid: Grid, unit_in: int, unit_out: int) -> Tensor:
    """The output (1, C', H', W') of a function for an input (1, C, H, W), computed in the tiles of a grid.

    A value of the input stands for `unit_in` pixels of the picture, and a value of the output for `unit_out`. A tile
    whose overlap covers the neighbourhood is cut; the others are blended.
    """
    height, width = (side * unit_in // unit_out for side in rows.shape[2:])
    mosaic = Mosaic(height, width, None if grid.is_exact else 2 * grid.halo // unit_out)
    tile_sides = zip(rows.shape[2:], (grid.height, grid.width), strict=True)
    for row, column in product(*(windows(side, tile // unit_in, grid.halo // unit_in) for side, tile in tile_sides)):
        tile = await compute(rows[:, :, row.read, column.read].contiguous())
        mosaic.lay(tile, row.in_units(unit_in, unit_out), column.in_units(unit_in, unit_out))
    return mosaic.whole() if grid.is_exact else await offload(mosaic.nbytes, mosaic.whole)


async def encode_in_tiles(forward: Forward, config: FamilyConfig, pixels: Tensor, grid: Grid) -> Rows:
    """The outputs of `encode` for uint8 pixels (B, C, H, W), image by image."""
    name: ForwardPass = "encode" if config.halo is None else "encode_local"

    async def compute(tile: Tensor) -> Tensor:
        return torch.cat(await forward(name, tile), dim=1)

    outputs = []
    for index in range(len(pixels)):
        tiled = await in_tiles(compute, pixels[index : index + 1], grid, 1, config.multiple)
        outputs.append(tiled if config.halo is None else torch.cat(await forward("encode_whole", tiled), dim=1))
    rows = await offload(sum(output.nbytes for output in outputs), torch.cat, outputs)
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
    return await offload(sum(image.nbytes for image in images), torch.cat, images)
