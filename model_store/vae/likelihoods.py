"""What a decoder says of an image: the likelihood p(x|z)."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor
from torch.nn import functional as F


@dataclass(frozen=True)
class Bernoulli:
    """Binary pixels, each on with the probability sigmoid(logits); `logits` are (B, C, H, W)."""

    logits: Tensor

    @property
    def mean(self) -> Tensor:
        """Each pixel's probability of being on, (B, C, H, W) in [0, 1]: the picture that people look at."""
        return self.logits.sigmoid()

    def log_prob(self, images: Tensor) -> Tensor:
        """log p(x|z) of binary images in nats, (B,): Kingma and Welling 2014, equation (11).

        Grey images give a cross-entropy here, which is no likelihood: binarise them first.
        """
        nats = F.binary_cross_entropy_with_logits(self.logits, images, reduction="none")
        return -nats.flatten(1).sum(1)
