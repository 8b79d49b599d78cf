"""The library's blocks in a form that gives the same numbers in less time and memory.

The library keeps every step of a block in memory of its own and divides the sum by 1. Here the activations and the sum
overwrite the step before, and the sum may be more precise than the branch. A doubling is one layer (`fold_doublings`),
equal but for rounding.
"""

from __future__ import annotations

from typing import Any

import torch
from diffusers.models.attention_processor import Attention
from diffusers.models.autoencoders.vae import AutoencoderTinyBlock
from diffusers.models.downsampling import Downsample2D
from diffusers.models.resnet import ResnetBlock2D
from diffusers.models.upsampling import Upsample2D
from torch import Tensor, nn
from torch.nn import functional as F

from ..vae.device import dtype_of
from ..vae.networks.doubling import fold_doublings, folded, is_plain_3x3
from ..vae.networks.residual import Residual, added, as_read_by
from ..vae.networks.strips import convolved_in_strips, strips_of
from . import normalised


def compute_in_place(network: nn.Module, *, folds_doublings: bool) -> None:
    """Replace the blocks of a network of the library; blocks of another kind stay."""
    if folds_doublings:
        fold_doublings(network)
    for parent in list(network.modules()):
        for name, block in parent.named_children():
            if isinstance(block, ResnetBlock2D) and _is_plain(block):
                setattr(parent, name, InPlaceBlock(block))
            elif isinstance(block, AutoencoderTinyBlock):
                setattr(parent, name, InPlaceTinyBlock(block))
            elif isinstance(block, Attention) and _is_residual(block):
                setattr(parent, name, ResidualAttention(block))
            elif folds_doublings and isinstance(block, Upsample2D) and _is_doubling(block):
                setattr(parent, name, Doubling(block.conv))
            elif isinstance(block, Downsample2D) and _is_halving(block):
                setattr(parent, name, Halving(block.conv))
            elif name == "conv_act" and isinstance(block, nn.SiLU):  # behind the last normalisation
                setattr(parent, name, nn.SiLU(inplace=True))


class InPlaceBlock(Residual):
    """x + f(x), where f is two times group normalisation, activation and convolution: (B, C, h, w) → (B, C', h, w)."""

    def __init__(self, block: Any) -> None:
        super().__init__()
        self.norm1, self.conv1, self.norm2, self.conv2 = block.norm1, block.conv1, block.norm2, block.conv2
        self.conv_shortcut, self.activation = block.conv_shortcut, _overwrites_its_input(block.nonlinearity)

    def forward(self, features: Tensor, temb: None = None) -> Tensor:  # noqa: ARG002  # the library passes it by name
        """(B, C, h, w) → (B, C', h, w)."""
        # In float32 strips took a fifth more time: Winograd's tiles do not fill them, and each transforms the weights.
        if dtype_of(self.conv1) != torch.float32 and len(strips_of(features)) > 1:
            return self._in_strips(features)
        change: Tensor = as_read_by(self.conv1, self.activation(self.norm1(features)))
        change = self.conv1(change)  # the name lets go of a map before the next one is made
        change = self.activation(self.norm2(change))
        change = self.conv2(change)
        return added(self._shortcut(features), change)

    def _in_strips(self, features: Tensor) -> Tensor:
        """(B, C, h, w) → (B, C', h, w) with one map besides the features and the sum."""
        count, _, height, width = features.shape
        hidden = features.new_empty(count, height, width, self.conv1.out_channels, dtype=dtype_of(self.conv1))
        hidden = hidden.permute(0, 3, 1, 2)
        for image, outputs in zip(features.split(1), hidden.split(1), strict=True):
            for rows, change in normalised.convolved_in_strips(self.norm1, self.activation, self.conv1, image):
                outputs[:, :, rows] = change
        total = self._shortcut(features)
        for image, outputs in zip(hidden.split(1), total.split(1), strict=True):
            for rows, change in normalised.convolved_in_strips(self.norm2, self.activation, self.conv2, image):
                outputs[:, :, rows] += change
        return total

    def _shortcut(self, features: Tensor) -> Tensor:
        shortcut: Tensor = features if self.conv_shortcut is None else self.conv_shortcut(features)
        return shortcut

    def branches(self) -> list[nn.Module]:
        """All but the first normalisation, which reads the sum of the block before."""
        return [self.conv1, self.norm2, self.conv2]


class InPlaceTinyBlock(Residual):
    """relu(x + f(x)), where f is three convolutions with activations: (B, C, h, w) → (B, C', h, w)."""

    def __init__(self, block: Any) -> None:
        super().__init__()
        self.conv, self.skip = block.conv, block.skip
        for layer in self.conv:
            _overwrites_its_input(layer)

    def forward(self, features: Tensor) -> Tensor:
        """(B, C, h, w) → (B, C', h, w)."""
        if len(strips_of(features)) == 1:
            change: Tensor = self.conv(as_read_by(self.conv, features))
            return added(self.skip(features), change).relu_()
        total: Tensor = self.skip(features)
        for image, outputs in zip(features.split(1), total.split(1), strict=True):
            for rows, change in convolved_in_strips(self.conv, image):
                outputs[:, :, rows].add_(change).relu_()
        return total

    def branches(self) -> list[nn.Module]:
        """The convolutions."""
        return [self.conv]


class ResidualAttention(Residual):
    """x + f(x), where f is group normalisation and attention between all cells: (B, C, h, w) → the same shape."""

    def __init__(self, attention: Any) -> None:
        super().__init__()
        self.attention = attention
        self.attention.residual_connection = False  # the sum is computed here

    def forward(self, features: Tensor, temb: None = None) -> Tensor:  # noqa: ARG002  # the library passes it by name
        """(B, C, h, w) → the same shape."""
        return added(features, self.attention(as_read_by(self.attention, features)))

    def branches(self) -> list[nn.Module]:
        """All of the attention."""
        return [self.attention]


class Doubling(nn.Module):
    """`Upsample2D` as one layer: (B, C, h, w) → (B, C', 2h, 2w)."""

    def __init__(self, convolution: nn.Conv2d) -> None:
        super().__init__()
        self.conv = folded(convolution)

    def forward(self, features: Tensor, output_size: None = None) -> Tensor:  # noqa: ARG002  # as in the library
        """(B, C, h, w) → (B, C', 2h, 2w)."""
        doubled: Tensor = self.conv(features)
        return doubled


class Halving(nn.Module):
    """`Downsample2D`: a row and a column of zeros below and right, and a 3×3 convolution with a stride of 2.

    (B, C, h, w) → (B, C', h // 2, w // 2). The library makes a copy of the map with the zeros, here of one strip.
    """

    def __init__(self, convolution: nn.Conv2d) -> None:
        super().__init__()
        self.conv = convolution

    def forward(self, features: Tensor) -> Tensor:
        """(B, C, h, w) → (B, C', h // 2, w // 2)."""
        count, _, height, width = features.shape
        outputs = features.new_empty(count, height // 2, width // 2, self.conv.out_channels).permute(0, 3, 1, 2)
        strips = strips_of(outputs)
        if len(strips) == 1:
            halved: Tensor = self.conv(F.pad(features, (0, 1, 0, 1)))
            return halved
        for rows in strips:
            read = features[:, :, 2 * rows.start : 2 * rows.stop + 1]
            below = 2 * rows.stop + 1 - min(height, 2 * rows.stop + 1)
            outputs[:, :, rows] = self.conv(F.pad(read, (0, 1, 0, below)))
        return outputs


def _is_plain(block: Any) -> bool:
    """Whether a block has only the steps of `InPlaceBlock`."""
    has_more = block.upsample or block.downsample or block.time_emb_proj or block.dropout.p
    is_scaled = block.output_scale_factor != 1 or block.time_embedding_norm == "scale_shift"
    return not has_more and not is_scaled


def _overwrites_its_input(layer: Any) -> Any:
    """The layer, which writes its outputs over its inputs if it is an activation that can."""
    if hasattr(layer, "inplace"):
        layer.inplace = True
    return layer


def _is_residual(block: Any) -> bool:
    """Whether an attention adds its outputs to its inputs, and does no more."""
    return block.residual_connection and block.rescale_output_factor == 1 and block.spatial_norm is None


def _is_halving(block: Any) -> bool:
    """Whether a block is a convolution that halves the sides, with zeros below and right, and nothing else."""
    kind = block.conv.kernel_size, block.conv.stride, block.conv.padding, block.conv.dilation, block.conv.groups
    return block.norm is None and block.use_conv and block.padding == 0 and kind == ((3, 3), (2, 2), (0, 0), (1, 1), 1)


def _is_doubling(block: Any) -> bool:
    """Whether a block is an upsampling to twice the side and a convolution, and nothing else."""
    is_bare = block.norm is None and block.interpolate and not block.use_conv_transpose and block.name == "conv"
    return is_bare and block.use_conv and is_plain_3x3(block.conv)
