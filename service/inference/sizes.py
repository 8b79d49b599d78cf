"""Which batch sizes are computed, so that an image's answer is the same in all of them.

Torch's CPU kernels sum in another order for one image than for many, for three than for four: the last bits differ,
and rounded to a pixel, such a bit can show. So a model is only run in sizes that were seen to agree bit for bit, and a
batch of another size is filled up. A GPU's kernels never agree; there the promise is a tolerance.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import torch
from torch import Tensor

Compute = Callable[[Tensor], tuple[Tensor, ...]]

BATCH_S = 0.25  # a larger batch would hold up small requests, and make the warm-up of a large model long


def candidates(largest: int) -> list[int]:
    """1, 2, 3, 4, 6, 8, 12, 16, … up to `largest`, and it too: at most a third of a batch is filling."""
    powers = [2**exponent for exponent in range(largest.bit_length())]
    return sorted({size for power in powers for size in (power, power * 3 // 2) if size < largest} | {largest})


def affordable(compute: Compute, rows: Tensor) -> int:
    """How many of the rows can be computed in `BATCH_S`, by the time that one takes; one at least."""
    fastest = min(_seconds(compute, rows[:1]) for _ in range(4))  # the first prepares things, any may be disturbed
    return max(1, min(len(rows), int(BATCH_S / fastest)))


def steady(compute: Compute, rows: Tensor) -> list[int]:
    """The candidate sizes in which each row's answer, wherever it stands, has the bits that it has among all rows."""
    reference = compute(rows)

    def agrees(size: int) -> bool:
        straight, turned = compute(rows[:size]), compute(rows[:size].flip(0))
        return all(
            torch.equal(there[:size], here) and torch.equal(there[:size], back.flip(0))
            for there, here, back in zip(reference, straight, turned, strict=True)
        )

    return [size for size in candidates(len(rows)) if size == len(rows) or agrees(size)]


def _seconds(compute: Compute, rows: Tensor) -> float:
    began = time.perf_counter()
    compute(rows)
    return time.perf_counter() - began
