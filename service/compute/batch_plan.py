"""Which batch sizes are computed, so that an image's answer is the same in all of them.

Torch's CPU kernels sum in another order for one image than for many, for three than for four: the last bits differ,
and rounded to a pixel, such a bit can show. Another processor has other kernels, and nothing here assumes any of them:
a model is only run in sizes that were seen to agree byte for byte on this machine, and a batch of another size is
filled up. Where no size agrees even with itself, and on a GPU, the promise is a tolerance.

The size that others must agree with never depends on a clock: processes that find other sizes to pay still give the
same bytes.
"""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Sequence
from typing import NamedTuple

from .rows import Rows, concatenate, first, length, pad, same_bytes, split

Compute = Callable[[Rows], Awaitable[Rows]]

BATCH_S = 0.05  # a batch that takes longer would hold up small requests
SHORT_S = 0.01  # one that takes less does not, and is the better for being larger: batches have costs of their own
MIN_GAIN = 1.02
# Images in the batch that all sizes must agree with: most sizes do, and even slow models can compute it.
REFERENCE_BATCH = 4
# Images that each size is tried with: torch's vectorised and scalar sigmoids agree on 97 % of all numbers.
EXAMPLES = 32


class BatchPlan(NamedTuple):
    """How an operation is computed."""

    sizes: list[int]  # of batches, ascending
    inline_images: int  # the most images that are computed in the caller's thread; more go to the device's
    part_images: int  # the fewest images of a large request that are computed at once
    is_exact: bool = True  # whether an image's answer has the same bytes in all sizes and at all places


BatchPlans = dict[str, BatchPlan]


def candidates(largest: int) -> list[int]:
    """1, 2, 3, 4, 6, 8, 12, 16, … up to `largest`, and it too: at most a third of a batch is filling."""
    powers = [2**exponent for exponent in range(largest.bit_length())]
    return sorted({size for power in powers for size in (power, power * 3 // 2) if size < largest} | {largest})


async def profitable_sizes(seconds: Callable[[int], Awaitable[float]], at_most: int) -> dict[int, float]:
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
        if taken <= SHORT_S or taken / size < best_s / MIN_GAIN:
            best, best_s = size, taken / size
    return {size: taken for size, taken in timed.items() if size <= best}


async def reproducible_sizes(
    compute: Compute, rows: Rows, profitable: Sequence[int], fitting: int = REFERENCE_BATCH
) -> list[int]:
    """Return the sizes in which each row has the same bytes as in a reference batch, at every place.

    `rows` has at least as many rows as the largest profitable size. If no profitable size agrees, the result is the
    smallest size that does. If the place in the batch matters even in a batch of `REFERENCE_BATCH` images, or if fewer
    images fit into memory, the reference is the next smaller candidate. The result is empty if the same computation
    of one row gives other bytes each time.
    """
    for unit in reversed(candidates(min(REFERENCE_BATCH, fitting))):
        reference = await _in_batches(compute, rows, unit)

        async def agreeing(sizes: Sequence[int], reference: Rows = reference) -> list[int]:
            return [size for size in sizes if await _agrees(compute, rows, size, reference)]

        if await agreeing([unit]):
            return await agreeing(profitable) or (await agreeing(candidates(unit)))[:1]
    return []


async def _in_batches(compute: Compute, rows: Rows, size: int) -> Rows:
    """The answers, computed in batches of one size."""
    whole = pad(rows, -(-length(rows) // size) * size)
    return first(concatenate([await compute(batch) for batch in split(whole, size)]), length(rows))


async def _agrees(compute: Compute, rows: Rows, size: int, reference: Rows) -> bool:
    """Whether batches of that size give the reference's bytes, and again when each row has moved on by one place.

    The second time compares each place with the next one, and so all of them.
    """
    rows, reference = first(rows, max(size, EXAMPLES)), first(reference, max(size, EXAMPLES))
    for places in (0, 1):
        moved = tuple(tensor.roll(places, 0) for tensor in rows)
        answers = await _in_batches(compute, moved, size)
        if not same_bytes(tuple(answer.roll(-places, 0) for answer in answers), reference):
            return False
    return True
