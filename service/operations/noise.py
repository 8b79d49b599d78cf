"""Seeds and noise. Noise is drawn for each request from its own seed, before rows of several requests share a batch.

Therefore an answer never depends on the other requests in the batch.
"""

from __future__ import annotations

import math
import secrets

from torch import Tensor

from model_store.vae.noise import standard_normal
from model_store.vae.record import MAX_SAFE_INTEGER

from ..offload import offload


def draw_seed() -> int:
    """A seed that cannot be guessed, for a request that names none; every JSON reader holds it exactly."""
    return secrets.randbelow(MAX_SAFE_INTEGER + 1)


async def normal_noise(seed: int, count: int, *shape: int) -> Tensor:
    """Noise (count, *shape) ~ N(0, I) of a seed."""
    return await offload(4 * count * math.prod(shape), standard_normal, seed, count, shape)
