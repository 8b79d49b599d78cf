"""Group normalisation and an activation before a convolution, in strips: the normalised map never exists as a whole."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..vae.device import dtype_of
from ..vae.networks.strips import strips_of

# A strip computes a row more on each side: in bfloat16, strips of 8 rows took 1.1 times as long as the whole map.
_LEAST_ROWS = 30


def convolved_in_strips(
    norm: nn.GroupNorm, activation: nn.Module, convolution: nn.Conv2d, image: Tensor
) -> Iterator[tuple[slice, Tensor]]:
    """Outputs of a plain 3×3 convolution of the normalised map (1, C, h, w), and their rows, strip by strip.

    The caller may not change the map meanwhile.
    """
    mean, variance = _statistics(norm, image)
    for strip in strips_of(image, _LEAST_ROWS):
        # a row more on each side, which the next and the last output row read; the outputs of that row itself are wrong
        rows = slice(max(0, strip.start - 1), strip.stop + 1)
        normalised = F.batch_norm(
            image[:, :, rows], mean, variance, norm.weight.float(), norm.bias.float(), eps=norm.eps
        )
        outputs = convolution(activation(normalised).to(dtype_of(convolution)))
        yield strip, outputs[:, :, strip.start - rows.start :][:, :, : strip.stop - strip.start]


def _statistics(norm: nn.GroupNorm, image: Tensor) -> tuple[Tensor, Tensor]:
    """The mean and the variance (C) of each channel's group, put together from the strips'."""
    groups, counts, means, variances = norm.num_groups, [], [], []
    weight, bias = norm.weight.float(), norm.bias.float()  # in float32, so that the statistics are too
    for strip in strips_of(image):
        # torch takes no other strides than those that a new map with the channels last has
        part = image[0].permute(1, 2, 0)[strip].contiguous()[None].permute(0, 3, 1, 2)
        cells = part[0, 0].numel()
        _, mean, scale = torch.native_group_norm(part, weight, bias, 1, part.shape[1], cells, groups, norm.eps)
        counts.append(cells)
        means.append(mean[0].double())
        variances.append(scale[0].double() ** -2 - norm.eps)
    shares = torch.tensor(counts, dtype=torch.float64)[:, None] / sum(counts)
    mean = (shares * torch.stack(means)).sum(0)
    variance = (shares * (torch.stack(variances) + (torch.stack(means) - mean).square())).sum(0)
    channels = len(weight) // groups
    return mean.float().repeat_interleave(channels), variance.float().repeat_interleave(channels)
