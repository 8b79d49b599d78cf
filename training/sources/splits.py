"""Splits: the images of a source, divided as the source divides them."""

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Splits:
    """Pixels uint8 (N, C, H, W) for training, to choose the weights, and for the test; a missing split is None.

    `groups` has the name of the group of each training image; None without groups.
    """

    train: Tensor
    validation: Tensor | None = None
    test: Tensor | None = None
    groups: Sequence[str] | None = None
