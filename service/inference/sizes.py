"""Which batch sizes are computed, so that an image's answer is the same in all of them.

Torch's CPU kernels sum in another order for one image than for many, for three than for four: the last bits differ,
and rounded to a pixel, such a bit can show. So a model is only run in sizes that were seen to agree bit for bit, and a
batch of another size is filled up. A GPU's kernels never agree; there the promise is a tolerance.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import torch
from torch import Tensor

Rows = tuple[Tensor, ...]
Compute = Callable[[Rows], Awaitable[Rows]]

BATCH_S = 0.02  # a batch that takes longer would hold up small requests
ABOUT = 1.05


def candidates(largest: int) -> list[int]:
    """1, 2, 3, 4, 6, 8, 12, 16, … up to `largest`, and it too: at most a third of a batch is filling."""
    powers = [2**exponent for exponent in range(largest.bit_length())]
    return sorted({size for power in powers for size in (power, power * 3 // 2) if size < largest} | {largest})


async def affordable(seconds: Callable[[int], Awaitable[float]], at_most: int) -> dict[int, float]:
    """The seconds of each candidate that can be computed in `BATCH_S`; of one image at least."""
    timed: dict[int, float] = {}
    for size in candidates(at_most):
        taken = await seconds(size)
        if timed and taken > BATCH_S:
            break
        timed[size] = taken
    return timed


def worthwhile(timed: dict[int, float]) -> int:
    """The smallest size that is about as fast, per image, as the fastest; a larger one would only make others wait."""
    fastest = min(seconds / size for size, seconds in timed.items())
    return next(size for size, seconds in timed.items() if seconds / size <= ABOUT * fastest)


def first(count: int, rows: Rows) -> Rows:
    """The first rows of each tensor."""
    return tuple(tensor[:count] for tensor in rows)


async def steady(compute: Compute, rows: Rows) -> list[int]:
    """The candidate sizes in which each row's answer has the same bits, wherever it stands.

    They are compared with the largest; where the place matters even there, the next smaller is the largest.
    """
    reference = await compute(rows)

    async def agrees(size: int) -> bool:
        some = first(size, rows)
        straight, turned = await compute(some), await compute(tuple(tensor.flip(0) for tensor in some))
        return all(
            torch.equal(there[:size], here) and torch.equal(there[:size], back.flip(0))
            for there, here, back in zip(reference, straight, turned, strict=True)
        )

    *smaller, largest = candidates(len(rows[0]))
    if not await agrees(largest):
        return await steady(compute, first(smaller[-1], rows))
    return [size for size in smaller if await agrees(size)] + [largest]
