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

from .rows import Rows, filled, first, joined, length, same_bytes, split

Compute = Callable[[Rows], Awaitable[Rows]]

BATCH_S = 0.05  # a batch that takes longer would hold up small requests
SHORT_S = 0.01  # one that takes less does not, and is the better for being larger: batches have costs of their own
GAIN = 1.02
UNIT = 4  # images, whose bits are those of all sizes: most sizes agree with it, and even slow models can compute it
EXAMPLES = (
    32  # images that each size is tried with: torch's vectorised and scalar sigmoids agree on 97 % of all numbers
)


class Pace(NamedTuple):
    """How an operation is computed."""

    sizes: list[int]  # of batches, ascending
    here: int  # the most images that are computed in the caller's thread; more go to the device's
    part: int  # the fewest images of a large request that are computed at once
    is_exact: bool = True  # whether an image's answer has the same bytes in all sizes and at all places


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


async def steady(compute: Compute, rows: Rows, paying: Sequence[int], fitting: int = UNIT) -> list[int]:
    """The sizes in which each row's answer has the bytes that it has in batches of `UNIT`, wherever it stands.

    They are those that pay, of which `rows` has enough for the largest; or else the smallest that agrees. Where the
    place matters even in a batch of `UNIT`, or fewer images fit, the next smaller candidate takes its part. The list is
    empty where the same computation of one row gives other bytes each time.
    """
    for unit in reversed(candidates(min(UNIT, fitting))):
        reference = await _in_batches(compute, rows, unit)

        async def agreeing(sizes: Sequence[int], reference: Rows = reference) -> list[int]:
            return [size for size in sizes if await _agrees(compute, rows, size, reference)]

        if await agreeing([unit]):
            return await agreeing(paying) or (await agreeing(candidates(unit)))[:1]
    return []


async def _in_batches(compute: Compute, rows: Rows, size: int) -> Rows:
    """The answers, computed in batches of one size."""
    whole = filled(rows, -(-length(rows) // size) * size)
    return first(joined([await compute(batch) for batch in split(whole, size)]), length(rows))


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
