"""Which batch sizes are computed, so that an image's answer is the same in all of them.

Torch's CPU kernels sum in another order for one image than for many, for three than for four: the last bits differ,
and rounded to a pixel, such a bit can show. So a model is only run in sizes that were seen to agree bit for bit, and a
batch of another size is filled up. A GPU's kernels never agree; there the promise is a tolerance.

What they agree with never depends on a clock: processes that find other sizes to pay still give the same bits.
"""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Sequence
from typing import NamedTuple

import torch

from .rows import Rows, filled, first, joined, length, split

Compute = Callable[[Rows], Awaitable[Rows]]

BATCH_S = 0.05  # a batch that takes longer would hold up small requests
SHORT_S = 0.01  # one that takes less does not, and is the better for being larger: batches have costs of their own
GAIN = 1.02
UNIT = 4  # images, whose bits are those of all sizes: most sizes agree with it, and even slow models can compute it


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


async def steady(compute: Compute, rows: Rows, paying: Sequence[int], unit: int = UNIT) -> list[int]:
    """The sizes in which each row's answer has the bits that it has in batches of `unit`, wherever it stands.

    They are those that pay, of which `rows` has enough for the largest; or else the smallest that agrees. Where the
    place matters even in a batch of `unit`, or there are fewer rows, the next smaller candidate takes its part.
    """
    *smaller, unit = candidates(min(unit, length(rows)))
    reference = await _in_batches(compute, rows, unit)

    async def agreeing(sizes: Sequence[int]) -> list[int]:
        return [size for size in sizes if await _agrees(compute, first(rows, size), reference)]

    if smaller and not await agreeing([unit]):
        return await steady(compute, rows, paying, smaller[-1])
    return await agreeing(paying) or [*await agreeing(smaller), unit][:1]


async def _in_batches(compute: Compute, rows: Rows, size: int) -> Rows:
    """The answers, computed so many at once."""
    whole = filled(rows, -(-length(rows) // size) * size)
    return joined([await compute(batch) for batch in split(whole, size)])


async def _agrees(compute: Compute, rows: Rows, reference: Rows) -> bool:
    """Whether all rows at once give the reference's bits, and the other way round too."""
    straight, turned = await compute(rows), await compute(tuple(tensor.flip(0) for tensor in rows))
    return all(
        torch.equal(there[: length(rows)], here) and torch.equal(there[: length(rows)], back.flip(0))
        for there, here, back in zip(reference, straight, turned, strict=True)
    )
