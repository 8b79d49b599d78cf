"""Splits: the images of a source, divided as the source divides them."""

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Splits:
    """Pixels uint8 (N, C, H, W) for training, to choose the weights, and for the test; a missing split is None."""

    train: Tensor
    validation: Tensor | None = None
    test: Tensor | None = None
