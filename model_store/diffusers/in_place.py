"""The library's blocks in a form that gives the same numbers in less time and memory.

The library keeps every step of a block in memory of its own and divides the sum by 1. Here the activations and the sum
overwrite the step before. A doubling is one layer (`fold_doublings`), equal but for rounding.
"""

from __future__ import annotations

from typing import Any

from diffusers.models.resnet import ResnetBlock2D
from diffusers.models.upsampling import Upsample2D
from torch import Tensor, nn
from torch.nn import functional as F

from ..vae.networks.doubling import fold_doublings, folded, is_plain_3x3


def compute_in_place(network: nn.Module, *, folds_doublings: bool) -> None:
    """Replace the blocks of a network of the library; blocks of another kind stay."""
    if folds_doublings:
        fold_doublings(network)
    for parent in list(network.modules()):
        for name, block in parent.named_children():
            if isinstance(block, ResnetBlock2D) and _is_plain(block):
                setattr(parent, name, InPlaceBlock(block))
            elif folds_doublings and isinstance(block, Upsample2D) and _is_doubling(block):
                setattr(parent, name, Doubling(block.conv))
            elif name == "conv_act" and isinstance(block, nn.SiLU):  # behind the last normalisation
                setattr(parent, name, nn.SiLU(inplace=True))


class InPlaceBlock(nn.Module):
    """x + f(x), where f is two times group normalisation, SiLU and convolution: (B, C, h, w) → (B, C', h, w)."""

    def __init__(self, block: Any) -> None:
        super().__init__()
        self.norm1, self.conv1, self.norm2, self.conv2 = block.norm1, block.conv1, block.norm2, block.conv2
        self.conv_shortcut = block.conv_shortcut

    def forward(self, features: Tensor, temb: None = None) -> Tensor:  # noqa: ARG002  # the library passes it by name
        """(B, C, h, w) → (B, C', h, w)."""
        change: Tensor = self.conv1(F.silu(self.norm1(features), inplace=True))
        change = F.silu(self.norm2(change), inplace=True)  # the name lets go of a map before the next one is made
        change = self.conv2(change)
        return change.add_(features if self.conv_shortcut is None else self.conv_shortcut(features))


class Doubling(nn.Module):
    """`Upsample2D` as one layer: (B, C, h, w) → (B, C', 2h, 2w)."""

    def __init__(self, convolution: nn.Conv2d) -> None:
        super().__init__()
        self.conv = folded(convolution)

    def forward(self, features: Tensor, output_size: None = None) -> Tensor:  # noqa: ARG002  # as in the library
        """(B, C, h, w) → (B, C', 2h, 2w)."""
        doubled: Tensor = self.conv(features)
        return doubled


def _is_plain(block: Any) -> bool:
    """Whether a block has only the steps of `InPlaceBlock`."""
    has_more = block.upsample or block.downsample or block.time_emb_proj or block.dropout.p
    is_scaled = block.output_scale_factor != 1 or block.time_embedding_norm == "scale_shift"
    return not has_more and not is_scaled and isinstance(block.nonlinearity, nn.SiLU)


def _is_doubling(block: Any) -> bool:
    """Whether a block is an upsampling to twice the side and a convolution, and nothing else."""
    is_bare = block.norm is None and block.interpolate and not block.use_conv_transpose and block.name == "conv"
    return is_bare and block.use_conv and is_plain_3x3(block.conv)
