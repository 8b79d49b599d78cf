"""Splits: the images of a source, as far as the source divides them itself."""

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Splits:
    """Pixels uint8 (N, C, H, W) to train on, to choose the weights by, and to test with; None for a missing split."""

    train: Tensor
    validation: Tensor | None = None
    test: Tensor | None = None
