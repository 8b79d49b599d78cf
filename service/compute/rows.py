"""Rows: tensors of equal length; row i of each belongs to image i. A forward pass takes rows and gives rows."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

Rows = tuple[Tensor, ...]

ALIGNMENT = 64  # bytes, as torch allocates


def length(rows: Rows) -> int:
    """The number of rows."""
    return len(rows[0])


def first(rows: Rows, number: int) -> Rows:
    """The first rows."""
    return tuple(tensor[:number] for tensor in rows)


def last(rows: Rows, number: int) -> Rows:
    """The last rows."""
    return tuple(tensor[-number:] for tensor in rows)


def split(rows: Rows, sizes: int | list[int]) -> list[Rows]:
    """Parts of `sizes` rows each; if `sizes` is a list, one part for each size in it."""
    return list(zip(*(torch.split(tensor, sizes) for tensor in rows), strict=True))


def concatenate(parts: Sequence[Rows]) -> Rows:
    """The rows of all parts, one part after the other."""
    return parts[0] if len(parts) == 1 else tuple(torch.cat(tensors) for tensors in zip(*parts, strict=True))


def pad(rows: Rows, number: int) -> Rows:
    """The rows and, behind them, rows of zeros up to that number."""
    if not (missing := number - length(rows)):
        return rows
    return tuple(torch.cat([tensor, tensor.new_zeros(missing, *tensor.shape[1:])]) for tensor in rows)


def nbytes(rows: Rows) -> int:
    """The size of all rows in bytes."""
    return sum(tensor.nbytes for tensor in rows)


def aligned(rows: Rows) -> Rows:
    """The rows at addresses that are multiples of `ALIGNMENT`; a tensor that begins elsewhere is copied.

    MKL sums in another order if a matrix begins at another address, as a part of a larger matrix or the body of a
    request may: on an AMD EPYC, batches of 2, 3 and 6 rows gave other bits at 12 of 16 offsets (November 2026).
    """
    return tuple(tensor.clone() if tensor.data_ptr() % ALIGNMENT else tensor for tensor in rows)


def same_bytes(ones: Rows, others: Rows) -> bool:
    """Whether two answers are the same to the last bit; a NaN equals itself."""
    return all(
        torch.equal(one.contiguous().view(torch.uint8), other.contiguous().view(torch.uint8))
        for one, other in zip(ones, others, strict=True)
    )
