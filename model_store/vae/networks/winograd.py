"""Winograd's convolution: 3×3, with a quarter of the products. It pays for wide maps in float32 on a CPU.

The output is cut into tiles of 4×4. A tile reads 6×6 inputs. Sums and differences turn them into 36 other numbers,
each of which is multiplied with one weight, where the direct sum has 9 products for each of 16 outputs; sums of the 36
products are the outputs. Only the products mix channels, so the more channels a map has, the less the sums cost.

Source: Lavin and Gray, "Fast Algorithms for Convolutional Neural Networks" (2016): F(4×4, 3×3) with the matrices of
section 4.3, applied to rows and then to columns, and the products as 36 products of matrices (section 4.1).
"""

from __future__ import annotations

import os
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from math import ceil, prod
from threading import Barrier
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .doubling import is_plain_3x3

_OUT, _IN, _TAPS = 4, 6, 3  # the sides of a tile's outputs, of its inputs, and of the kernel
# With as many channels and tiles as these, it took 0.4 to 0.9 times as long as the direct sum; with less, up to 1.4
# times (two cores of an AMD EPYC, November 2026, threads that soon sleep: docs/decisions/0015-waiting-threads.md).
_LEAST_CHANNELS = 64
_LEAST_TILES, _LEAST_NUMBERS = 256, 2**15  # the second is channels times tiles
_BLOCK_TILES = 128
_AREAS_BYTES = 128 * 2**20  # of all threads together, at most: with many threads the blocks are smaller

# The matrices of F(4, 3) for a row or a column: 6 inputs to 6 numbers, 3 weights to 6 numbers, 6 products to 4 outputs.
_INPUTS = torch.tensor(
    [
        [4.0, 0, -5, 0, 1, 0],
        [0, -4, -4, 1, 1, 0],
        [0, 4, -4, -1, 1, 0],
        [0, -2, -1, 2, 1, 0],
        [0, 2, -1, -2, 1, 0],
        [0, 4, 0, -5, 0, 1],
    ]
)
_WEIGHTS = torch.tensor(
    [
        [1 / 4, 0, 0],
        [-1 / 6, -1 / 6, -1 / 6],
        [-1 / 6, 1 / 6, -1 / 6],
        [1 / 24, 1 / 12, 1 / 6],
        [1 / 24, -1 / 12, 1 / 6],
        [0, 0, 1],
    ],
    dtype=torch.float64,
)
_OUTPUTS = torch.tensor(
    [
        [1.0, 1, 1, 1, 1, 0],
        [0, 1, -1, 2, -2, 0],
        [0, 1, 1, 4, 4, 0],
        [0, 1, -1, 8, -8, 1],
    ]
)


class WinogradConv2d(nn.Conv2d):
    """A 3×3 convolution with a padding of one zero that computes large maps in float32 as Winograd does.

    The outputs equal `Conv2d`'s but for rounding. Of random maps, their error was four times as large: 132 to 134 dB
    below their range, not 145. Maps of other types of numbers are convolved directly; bfloat16 would lose too much.
    """

    def forward(self, features: Tensor) -> Tensor:
        """(B, C, h, w) → (B, C', h, w)."""
        return convolve(features, self.weight, self.bias) if self._pays_for(features) else super().forward(features)

    def forward_inside(self, features: Tensor) -> Tensor:
        """(B, C, h, w) → (B, C', h - 2, w), without the first and the last row, which need rows outside of the map."""
        if self._pays_for(features):
            return convolve(features, self.weight, self.bias, zero_rows=0)
        return F.conv2d(features, self.weight, self.bias, padding=(0, 1))

    def _pays_for(self, features: Tensor) -> bool:
        tiles = prod(ceil(side / _OUT) for side in features.shape[2:])
        is_large = tiles >= _LEAST_TILES and features.shape[1] * tiles >= _LEAST_NUMBERS
        return is_large and features.dtype == torch.float32 and not torch.is_grad_enabled()


def use_winograd(network: nn.Module) -> None:
    """Replace the convolutions of a network for which Winograd's was measured to be faster."""
    for parent in list(network.modules()):
        for name, layer in parent.named_children():
            if type(layer) is not nn.Conv2d or not is_plain_3x3(layer):
                continue
            if min(layer.in_channels, layer.out_channels) >= _LEAST_CHANNELS:
                setattr(parent, name, _as_winograd(layer))


def convolve(inputs: Tensor, weight: Tensor, bias: Tensor | None, zero_rows: int = 1) -> Tensor:
    """Maps float32 (B, C', h, w) of maps (B, C, h, w), a kernel (C', C, 3, 3) and a bias (C').

    Zeros surround the maps: a column at each side, and `zero_rows` rows (0 or 1) above and below. Without these rows
    the outputs have two rows less.

    Each thread computes blocks of tiles from the inputs to the outputs, in its processor's cache. Threads that shared
    each step would wait for each other in each: that took twenty times as long beside another process.
    """
    threads = torch.get_num_threads()
    count, _, height_in, width = inputs.shape
    height = height_in + 2 * zero_rows - 2
    outputs = inputs.new_empty(count, height, width, len(weight))
    most_tiles = _AREAS_BYTES // (threads * 2 * _IN**2 * max(weight.shape[:2]) * weight.itemsize)
    rows, columns = _block_sides(ceil(height / _OUT), ceil(width / _OUT), threads, min(_BLOCK_TILES, most_tiles))
    blocks = _Blocks(inputs.permute(0, 2, 3, 1), zero_rows, _transformed(weight), bias, outputs, rows, columns)
    corners = deque(
        (index, top, left)
        for index in range(count)
        for top in range(0, height, _OUT * rows)
        for left in range(0, width, _OUT * columns)
    )
    if threads == 1:
        blocks.compute(corners)
        return outputs.permute(0, 3, 1, 2)
    try:
        tasks = min(threads, len(corners))
        for done in [_pool(threads, os.getpid()).submit(blocks.compute, corners) for _ in range(tasks)]:
            done.result()
    finally:
        corners.clear()  # after an error in one thread the others end early
    return outputs.permute(0, 3, 1, 2)


@cache
def _pool(threads: int, process: int) -> ThreadPoolExecutor:  # noqa: ARG001  # a fork has none of the threads
    """Threads each of which computes alone."""
    pool, all_started = ThreadPoolExecutor(threads, "winograd"), Barrier(threads + 1)

    def start() -> None:
        torch.set_num_threads(1)
        torch.get_num_threads()  # at its first such call a thread takes over the process's number; here it is still 1
        all_started.wait()

    for _ in range(threads):
        pool.submit(start)
    all_started.wait()
    torch.set_num_threads(threads)  # the number of later threads, which the others have set as well
    return pool


def _block_sides(rows: int, columns: int, threads: int, most_tiles: int) -> tuple[int, int]:
    """The tiles of a block, down and across, of a map with that many tiles."""
    tiles = max(1, min(most_tiles, rows * columns // threads))
    across = ceil(columns / ceil(columns / tiles))
    return max(1, min(rows, tiles // across)), across


def _transformed(weight: Tensor) -> Tensor:
    """The matrices (36, C, C') of a kernel (C', C, 3, 3), by column and by row of a tile.

    They are made at each call: kept, they would take four times the memory of the weights.
    """
    transform = torch.kron(_WEIGHTS, _WEIGHTS).to(weight.dtype)
    by_place = weight.permute(3, 2, 1, 0)
    return torch.mm(transform, by_place.reshape(_TAPS**2, -1)).view(_IN**2, *by_place.shape[2:])


class _Blocks(NamedTuple):
    """The inputs and outputs (B, h, w, C) of all blocks, and the number of tiles of a block, down and across.

    `zero_rows` rows of zeros are above the inputs, and as many below.
    """

    inputs: Tensor
    zero_rows: int
    weight: Tensor
    bias: Tensor | None
    outputs: Tensor
    rows: int
    columns: int

    @torch.inference_mode()
    def compute(self, corners: deque[tuple[int, int, int]]) -> None:
        """Compute one block after another; the corners are taken from the deque, which several threads may share.

        A corner is the number of the image, and the place of the block's first output.
        """
        _, channels_in, channels_out = self.weight.shape
        # A row has a tile more than it needs, of numbers that are not used, so that all tiles lie at equal distances.
        rows, columns = self.rows, self.columns + 1
        tiles = rows * columns
        # There are two areas of memory: a step reads from one and writes into the other.
        size = _IN**2 * tiles * max(channels_in, channels_out)
        one, two = self.inputs.new_empty(size), self.inputs.new_empty(size)

        def part(area: Tensor, *shape: int) -> Tensor:
            return area[: prod(shape)].view(shape)

        # The columns of the inputs are in four parts, each with every fourth: the first columns of all tiles are then
        # one piece of memory, and so are the second ones. The fifth and sixth are the first two of the next tile.
        padded = self.inputs.new_zeros(_OUT, _OUT * rows + _IN - _OUT, columns, channels_in)
        rows_in = padded.flatten(2)
        by_row = part(one, _OUT, _IN, rows, columns * channels_in)
        in_row = by_row.flatten(1)
        in_next = in_row.as_strided(
            (_IN - _OUT, in_row.shape[1]), in_row.stride(), in_row.storage_offset() + channels_in
        )
        points = part(two, _IN, in_row.shape[1])
        products = part(one, _IN**2, tiles, channels_out)
        by_column = part(two, _OUT, _IN, tiles * channels_out)
        by_place = part(one, _OUT, _OUT, tiles * channels_out)
        tiles_out = by_place.view(_OUT, _OUT, rows, columns, channels_out)[:, :, :, :-1].permute(2, 1, 3, 0, 4)
        of_tile, of_next = _INPUTS.split([_OUT, _IN - _OUT], 1)
        while corners:
            try:
                index, top, left = corners.popleft()
            except IndexError:
                return  # another thread has taken the last one
            self._read(padded, index, top, left)
            for row in range(rows):
                here = slice(_OUT * row, _OUT * row + _IN)
                torch.bmm(_INPUTS.expand(_OUT, -1, -1), rows_in[:, here], out=by_row[:, :, row])
            torch.mm(of_tile, in_row, out=points)
            torch.addmm(points, of_next, in_next, out=points)
            torch.bmm(points.view(_IN**2, tiles, channels_in), self.weight, out=products)
            torch.mm(_OUTPUTS, products.view(_IN, -1), out=by_column.view(_OUT, -1))
            torch.bmm(_OUTPUTS.expand(_OUT, -1, -1), by_column, out=by_place)
            self._write(tiles_out, index, top, left)

    def _read(self, padded: Tensor, index: int, top: int, left: int) -> None:
        """Copy the inputs of a block, with one cell more on each side, and zeros outside of the map."""
        _, height, width, _ = self.inputs.shape
        parts, rows, columns, _ = padded.shape
        top, left = top - self.zero_rows, left - 1
        above, below = max(0, top), min(height, top + rows)
        right = left + parts * columns
        if below - above < rows or left < 0 or right > width:
            padded.zero_()
        for first, part in enumerate(padded, left):
            skipped = 1 if first < 0 else 0
            here = self.inputs[index, above:below, first + skipped * parts : right : parts]
            part[above - top : below - top, skipped : skipped + here.shape[1]] = here

    def _write(self, tiles: Tensor, index: int, top: int, left: int) -> None:
        """Copy the outputs of a block, (rows, 4, columns, 4, C'), and add the bias."""
        rows, _, columns, _, channels = tiles.shape
        size = _OUT * rows, _OUT * columns
        here = self.outputs[index, top : top + size[0], left : left + size[1]]
        if here.shape[:2] == size:
            here = here.unflatten(1, (columns, _OUT)).unflatten(0, (rows, _OUT))
        else:  # at the right and lower edge, where a block can be larger than the map
            tiles = tiles.reshape(*size, channels)[: here.shape[0], : here.shape[1]]
        if self.bias is None:
            here.copy_(tiles)
        else:
            torch.add(tiles, self.bias, out=here)


def _as_winograd(layer: nn.Conv2d) -> WinogradConv2d:
    other = WinogradConv2d(layer.in_channels, layer.out_channels, kernel_size=3, padding=1, bias=False, device="meta")
    other.weight, other.bias = layer.weight, layer.bias
    return other
