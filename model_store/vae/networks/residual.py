"""Residual blocks: each adds the outputs of its branches to its input. The sum may be more precise than a branch.

A block may write the sum over its input: a network that was given that input by its caller copies it first.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable

from torch import Tensor, nn

from ..device import dtype_of


class Residual(nn.Module):
    """A block that computes features + branch(features) with `added` and `as_read_by`."""

    @abstractmethod
    def branches(self) -> list[nn.Module]:
        """The layers whose outputs are added; their weights may have another type than the features."""


def branches_of(modules: Iterable[nn.Module]) -> list[nn.Module]:
    """The branches of all residual blocks in some modules."""
    blocks = [block for module in modules for block in module.modules() if isinstance(block, Residual)]
    return [branch for block in blocks for branch in block.branches()]


def as_read_by(branch: nn.Module, features: Tensor) -> Tensor:
    """Features in the type of a branch's weights."""
    return features.to(dtype_of(branch))


def added(features: Tensor, change: Tensor) -> Tensor:
    """Features + change, in the type of the features, and in the memory of one of them."""
    return change.add_(features) if change.dtype == features.dtype else features.add_(change)
