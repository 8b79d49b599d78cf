"""Splits: the images of a source, divided as the source divides them."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor


@dataclass(frozen=True)
class Splits:
    """Pixels uint8 (N, C, H, W) for training, to choose the weights, and for the test; a missing split is None.

    `groups` has the name of the group of each training image; None without groups. `folder` is the place in a cache
    where the training images are, if they do not fit into the memory.
    """

    train: Tensor
    validation: Tensor | None = None
    test: Tensor | None = None
    groups: Sequence[str] | None = None
    folder: Path | None = None
