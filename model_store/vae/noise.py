"""Noise ε that belongs to a seed, and to nothing else.

Image i of a seed gets the same noise however many images are asked for, on every device, in every batch.
"""

import torch
from torch import Tensor

MAX_SEED = 2**63 - 1


def standard_normal(seed: int, count: int, shape: tuple[int, ...]) -> Tensor:
    """Noise (count, *shape) ~ N(0, I), float32 on the CPU; row i depends on `seed` and i alone.

    Rows are drawn one by one: torch's generator fills a large tensor in another order than a small one, and the
    third of three rows would not be the third of four.
    """
    generator = torch.Generator().manual_seed(seed)
    return torch.stack([torch.randn(shape, generator=generator) for _ in range(count)])
