"""A learned prior, computed on the CPU in blocks of rows.

Noise is drawn for each request, and so are its latents: the rows of two requests never share a block. Kernels may
round the last digit in another way for another number of rows, so every block has the same number, and row i of an
answer depends on its own noise alone.
"""

from __future__ import annotations

import copy
from collections.abc import Callable

import torch
from torch import Tensor, nn

from model_store.vae.priors import Prior

BLOCK = 16


def in_blocks(prior: Prior) -> Prior:
    """A learned prior with weights of its own, float32 on the CPU, computed in blocks; another prior as it is."""
    return _PriorInBlocks(prior) if isinstance(prior, nn.Module) else prior


class _PriorInBlocks(Prior):
    is_learned = True

    def __init__(self, prior: Prior) -> None:
        # the network's own may be moved to a GPU
        self._prior = copy.deepcopy(prior)
        if isinstance(self._prior, nn.Module):
            self._prior.cpu().float()

    def from_normal(self, normal: Tensor) -> Tensor:
        return _compute(self._prior.from_normal, normal)

    def to_normal(self, coordinates: Tensor) -> Tensor:
        return _compute(self._prior.to_normal, coordinates)

    def log_prob(self, coordinates: Tensor) -> Tensor:
        return _compute(self._prior.log_prob, coordinates)


@torch.no_grad()
def _compute(function: Callable[[Tensor], Tensor], rows: Tensor) -> Tensor:
    """The function of rows (B, …), with rows of zeros behind them up to whole blocks."""
    zeros = rows.new_zeros(-len(rows) % BLOCK, *rows.shape[1:])
    return torch.cat([function(block) for block in torch.cat([rows, zeros]).split(BLOCK)])[: len(rows)]
