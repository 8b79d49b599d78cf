"""What latents look like before an image is seen: the prior p(z)."""

import math
from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class StandardNormal:
    """p(z) = N(0, I)."""

    def sample(self, noise: Tensor, temperature: float = 1.0) -> Tensor:
        """Latents from standard normal noise; `temperature` scales their standard deviation."""
        return temperature * noise

    def log_prob(self, latents: Tensor) -> Tensor:
        """log p(z) in nats, (B,)."""
        return -0.5 * (latents.square() + math.log(2 * math.pi)).flatten(1).sum(1)
