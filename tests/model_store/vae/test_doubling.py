"""A doubling and its convolution are one layer that gives the same numbers."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from model_store.vae.networks.doubling import fold_doublings, folded, is_plain_3x3


@pytest.mark.parametrize("has_bias", [True, False])
@pytest.mark.parametrize("shape", [(1, 1), (1, 5), (4, 3)])
def test_folded_layer_gives_what_both_layers_give(shape: tuple[int, int], has_bias: bool) -> None:
    """At the edges too, where the convolution reads zeros."""
    torch.manual_seed(0)
    convolution = nn.Conv2d(3, 5, kernel_size=3, padding=1, bias=has_bias).double()
    features = torch.randn(2, 3, *shape, dtype=torch.float64)
    expected = nn.Sequential(nn.Upsample(scale_factor=2), convolution)(features)

    found = folded(convolution)(features)

    torch.testing.assert_close(found, expected)


def test_sums_of_weights_in_half_precision_are_not_rounded() -> None:
    """Weights of many published files are float16, and float32 computes them exactly."""
    convolution = nn.Conv2d(1, 1, kernel_size=3, padding=1, dtype=torch.float16)
    with torch.no_grad():
        convolution.weight.copy_(torch.tensor([[1, 2, 3], [4, 5, 6], [7, 8, 2048]]))

    kernel = folded(convolution).weight[0, 0]

    assert kernel.dtype == torch.float32
    assert kernel[0].tolist() == [2048, 2056, 15, 7]
    assert kernel[1].tolist() == [2054, 2067, 24, 11]  # 2067 is not a number of float16


@pytest.mark.parametrize(
    "other",
    [
        nn.Conv2d(2, 2, kernel_size=1),
        nn.Conv2d(2, 2, kernel_size=3),
        nn.Conv2d(2, 2, kernel_size=3, padding=1, stride=2),
        nn.Conv2d(2, 2, kernel_size=3, padding=1, groups=2),
        nn.Conv2d(2, 2, kernel_size=3, padding=1, padding_mode="reflect"),
    ],
)
def test_other_convolutions_are_not_folded(other: nn.Conv2d) -> None:
    """They stay behind their upsampling."""
    network = nn.Sequential(nn.Upsample(scale_factor=2), other)

    fold_doublings(network)

    assert not is_plain_3x3(other)
    assert network[1] is other
    assert isinstance(network[0], nn.Upsample)


@pytest.mark.parametrize(
    "upsampling",
    [nn.Upsample(scale_factor=3), nn.Upsample(scale_factor=2, mode="bilinear"), nn.Upsample(size=(4, 4))],
)
def test_other_upsamplings_are_not_folded(upsampling: nn.Upsample) -> None:
    """The convolution behind them stays too."""
    convolution = nn.Conv2d(2, 2, kernel_size=3, padding=1)
    network = nn.Sequential(upsampling, convolution)

    fold_doublings(network)

    assert list(network) == [upsampling, convolution]
