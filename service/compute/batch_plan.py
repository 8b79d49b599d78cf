"""Measures in which batch sizes a model is computed: sizes that pay, and in which an image's answer is the same.

Torch's CPU kernels sum in another order for one image than for many, and for three than for four. The last bits differ,
and such a bit can show in a pixel after rounding. Other processors have other kernels, so nothing here assumes any of
them: a model only runs in sizes that agreed byte for byte on this machine, and other batches are padded to one of
these sizes. On a GPU, and where two runs of one size do not agree, the promise is a tolerance.

The size that the others must agree with never depends on a clock, so two processes that find other sizes profitable
still give the same bytes. This module decides nothing about requests: the batcher does, from the plan.
"""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Sequence
from typing import NamedTuple

from .rows import Rows, concatenate, first, length, pad, same_bytes, split

Compute = Callable[[Rows], Awaitable[Rows]]

BATCH_S = 0.05  # a longer batch would hold up small requests
SHORT_S = 0.01  # a shorter batch does not, and a larger one is better: each batch has fixed costs
MIN_GAIN = 1.02
# Images in the batch that all sizes must agree with: most sizes do, and even slow models can compute it.
REFERENCE_BATCH = 4
# Images that each size is tried with: torch's vectorised and scalar sigmoids agree on 97 % of all numbers.
EXAMPLES = 32


class BatchPlan(NamedTuple):
    """The batch sizes of a forward pass, and how long each takes."""

    seconds: dict[int, float]  # of a batch, by its size in images, ascending
    inline_images: int = 0  # batches of at most this size run in the caller's thread, larger ones in the device's
    is_exact: bool = True  # whether an image's answer has the same bytes in all sizes and at all places

    def is_possible(self, largest: int) -> bool:
        """Whether a warm-up in batches of at most `largest` images can have found this plan; a file may have any."""
        sizes = self.sizes
        return (
            bool(sizes)
            and sizes == sorted(sizes)
            and 0 < sizes[0] <= sizes[-1] <= largest
            and all(0 < batch_s < math.inf for batch_s in self.seconds.values())
            and self.inline_images in (0, *sizes)
        )

    @property
    def sizes(self) -> list[int]:
        """The batch sizes in images, ascending."""
        return list(self.seconds)

    def images_within(self, seconds: float) -> int:
        """The images of the largest batch that takes at most that time, or of the smallest if all take longer."""
        return max((size for size, batch_s in self.seconds.items() if batch_s <= seconds), default=min(self.seconds))


BatchPlans = dict[str, BatchPlan]


def candidates(largest: int) -> list[int]:
    """1, 2, 3, 4, 6, 8, 12, 16, … up to `largest`, and it too: at most a third of a batch is padding."""
    powers = [2**exponent for exponent in range(largest.bit_length())]
    return sorted({size for power in powers for size in (power, power * 3 // 2) if size < largest} | {largest})


async def profitable_sizes(seconds: Callable[[int], Awaitable[float]], at_most: int) -> dict[int, float]:
    """Return the seconds of each candidate size that pays: size 1, and larger ones while an image takes less time.

    The search ends when twice as many images gain nothing, or when a batch takes longer than `BATCH_S`: other requests
    would only have to wait for it.
    """
    timed: dict[int, float] = {}
    best, best_image_s = 1, math.inf
    for size in candidates(at_most):
        batch_s = await seconds(size)
        if size > 1 and (batch_s > BATCH_S or size > 2 * best):
            break
        timed[size] = batch_s
        if batch_s <= SHORT_S or batch_s / size < best_image_s / MIN_GAIN:
            best, best_image_s = size, batch_s / size
    return {size: batch_s for size, batch_s in timed.items() if size <= best}


async def reproducible_sizes(
    compute: Compute, rows: Rows, profitable: Sequence[int], fitting: int = REFERENCE_BATCH
) -> list[int]:
    """Return the sizes in which each row has the same bytes as in the reference batch, at every place.

    These are the profitable sizes that agree, or else the smallest size that does. The reference is a batch of
    `REFERENCE_BATCH` images. If the place matters even in that batch, or if only `fitting` images fit into memory, the
    next smaller candidate is the reference. The result is empty if one row alone gives other bytes each time.

    `rows` must have as many rows as the largest profitable size.
    """
    for reference_size in reversed(candidates(min(REFERENCE_BATCH, fitting))):
        reference = await in_batches(compute, rows, reference_size)
        if not await agrees(compute, rows, reference_size, reference):
            continue  # the place in the batch matters, or repeating the computation gives other bytes
        if sizes := [size for size in profitable if await agrees(compute, rows, size, reference)]:
            return sizes
        # Only a model that is too slow, or a hostile kernel, comes here. The reference size itself agrees.
        sizes = [size for size in candidates(reference_size) if await agrees(compute, rows, size, reference)]
        return sizes[:1]
    return []


async def in_batches(compute: Compute, rows: Rows, size: int) -> Rows:
    """The answers for the rows, computed in batches of one size. The last batch is padded."""
    whole = pad(rows, math.ceil(length(rows) / size) * size)
    return first(concatenate([await compute(batch) for batch in split(whole, size)]), length(rows))


async def agrees(compute: Compute, rows: Rows, size: int, reference: Rows) -> bool:
    """Whether batches of that size give the reference's bytes, also when each row moves to the next place.

    The second comparison covers all places, since it compares each place with the next one.
    """
    rows, reference = first(rows, max(size, EXAMPLES)), first(reference, max(size, EXAMPLES))
    for places in (0, 1):
        moved = tuple(tensor.roll(places, 0) for tensor in rows)
        answers = await in_batches(compute, moved, size)
        if not same_bytes(tuple(answer.roll(-places, 0) for answer in answers), reference):
            return False
    return True
