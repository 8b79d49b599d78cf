"""Noise ε that depends on the seed and on the number of the image only.

Image i of a seed gets the same noise on every device, in every batch, and for any number of images.
"""

import hashlib
from math import prod

import torch
from torch import Tensor

MAX_SEED = 2**63 - 1

_BLOCK = 16  # torch's generator turns this many uniform numbers at a time into normal ones


def standard_normal(seed: int, count: int, shape: tuple[int, ...]) -> Tensor:
    """Noise (count, *shape) ~ N(0, I), float32 on the CPU; row i depends on `seed` and i alone.

    Rows are drawn a multiple of sixteen wide and cut: only then does torch's generator fill a large tensor as it
    fills a small one, and the third of three rows is the third of four.
    """
    width = prod(shape)
    rows = torch.randn(count, width + -width % _BLOCK, generator=torch.Generator().manual_seed(seed))
    return rows[:, :width].reshape(count, *shape)


def uniform(seed: int, count: int, shape: tuple[int, ...]) -> Tensor:
    """Noise (count, *shape) ~ U(0, 1), float32 on the CPU; row i depends on `seed` and i alone."""
    return torch.rand(count, *shape, generator=torch.Generator().manual_seed(seed))


def derived_seed(seed: int, what: str) -> int:
    """The seed of one of several draws for the same request; the draws are independent of each other."""
    digest = hashlib.blake2b(f"{seed} {what}".encode(), digest_size=8).digest()
    return int.from_bytes(digest) & MAX_SEED
