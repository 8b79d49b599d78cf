"""Which batch sizes are computed, so that an image's answer is the same in all of them.

Torch's CPU kernels sum in another order for one image than for many, for three than for four: the last bits differ,
and rounded to a pixel, such a bit can show. So a model is only run in sizes that were seen to agree bit for bit, and a
batch of another size is filled up. A GPU's kernels never agree; there the promise is a tolerance.
"""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable
from typing import NamedTuple

import torch

from .rows import Rows, first, length

Compute = Callable[[Rows], Awaitable[Rows]]

BATCH_S = 0.05  # a batch that takes longer would hold up small requests
SHORT_S = 0.01  # one that takes less does not, and is the better for being larger: batches have costs of their own
GAIN = 1.02


class Pace(NamedTuple):
    """How an operation is computed."""

    sizes: list[int]  # of batches, ascending
    here: int  # the most images that are computed in the caller's thread; more go to the device's
    part: int  # the fewest images of a large request that are computed at once


Paces = dict[str, Pace]


def candidates(largest: int) -> list[int]:
    """1, 2, 3, 4, 6, 8, 12, 16, … up to `largest`, and it too: at most a third of a batch is filling."""
    powers = [2**exponent for exponent in range(largest.bit_length())]
    return sorted({size for power in powers for size in (power, power * 3 // 2) if size < largest} | {largest})


async def worthwhile(seconds: Callable[[int], Awaitable[float]], at_most: int) -> dict[int, float]:
    """The seconds of each candidate that pays: of one image, and of more as long as each takes less time in them.

    It is over when twice as many images gain nothing, or take longer than `BATCH_S`: others would only have to wait.
    """
    timed: dict[int, float] = {}
    best, best_s = 1, math.inf  # seconds of an image
    for size in candidates(at_most):
        taken = await seconds(size)
        if size > 1 and (taken > BATCH_S or size > 2 * best):
            break
        timed[size] = taken
        if taken <= SHORT_S or taken / size < best_s / GAIN:
            best, best_s = size, taken / size
    return {size: taken for size, taken in timed.items() if size <= best}


async def steady(compute: Compute, rows: Rows) -> list[int]:
    """The candidate sizes in which each row's answer has the same bits, wherever it stands.

    They are compared with the largest; where the place matters even there, the next smaller is the largest.
    """
    reference = await compute(rows)

    async def agrees(size: int) -> bool:
        some = first(rows, size)
        straight, turned = await compute(some), await compute(tuple(tensor.flip(0) for tensor in some))
        return all(
            torch.equal(there[:size], here) and torch.equal(there[:size], back.flip(0))
            for there, here, back in zip(reference, straight, turned, strict=True)
        )

    *smaller, largest = candidates(length(rows))
    if not await agrees(largest):
        return await steady(compute, first(rows, smaller[-1]))
    return [size for size in smaller if await agrees(size)] + [largest]
