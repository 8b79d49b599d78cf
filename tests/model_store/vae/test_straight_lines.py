"""Layers that keep straight lines: at the edges of a map, and where the resolution doubles."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from model_store.vae.networks.shortcut_conv import ShortcutDoubling, ShortcutHalving
from model_store.vae.networks.straight_lines import (
    Doubling,
    extended,
    linear_interpolation,
    smooth_part,
    straight_part,
)

CPU = torch.device("cpu")


def slopes(rows: range, columns: range) -> Tensor:
    """Two channels that go evenly across and down, (1, 2, h, w)."""
    down, across = torch.tensor(rows)[:, None] * 1.0, torch.tensor(columns) * 1.0
    return torch.stack([1 + 2 * down + 3 * across, 5 - down + 0.5 * across])[None]


@pytest.mark.parametrize(("height", "width"), [(2, 2), (3, 5), (7, 2)])
def test_extended_map_goes_on_as_before(height: int, width: int) -> None:
    """At the corners too."""
    inside, whole = slopes(range(height), range(width)), slopes(range(-1, height + 1), range(-1, width + 1))

    torch.testing.assert_close(extended(inside), whole)


def test_ring_is_twice_the_outermost_value_minus_the_value_before() -> None:
    """Along the edges, of any map."""
    features = torch.randn(2, 3, 4, 5)

    ring = extended(features)[:, :, 0, 1:-1]

    torch.testing.assert_close(ring, 2 * features[:, :, 0] - features[:, :, 1])


@pytest.mark.parametrize(("height", "width"), [(2, 2), (3, 5)])
def test_gradient_of_an_extended_map_is_right(height: int, width: int) -> None:
    """The gradient is written by hand, and compared with differences."""
    features = torch.randn(2, 3, height, width, dtype=torch.float64, requires_grad=True)

    assert torch.autograd.gradcheck(extended, (features,))


def test_extended_map_keeps_the_memory_order() -> None:
    """Convolutions on a CPU compute fastest with the channels last."""
    features = torch.randn(2, 3, 4, 5).contiguous(memory_format=torch.channels_last)

    assert extended(features).is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("layer", [Doubling(2, 3), Doubling(2, 3, is_smooth=True)], ids=["straight", "smooth"])
def test_doubled_line_is_straight(layer: Doubling) -> None:
    """With random weights every output channel is a straight line, up to its edges."""
    doubled = layer(slopes(range(4), range(5)))

    assert doubled.shape == (1, 3, 8, 10)
    for dimension in (2, 3):
        bends = doubled.diff(n=2, dim=dimension)
        torch.testing.assert_close(bends, torch.zeros_like(bends), atol=1e-4, rtol=0)


def test_smooth_doubling_adds_no_pattern_with_a_period_of_two_pixels() -> None:
    """Lines of alternating sign are orthogonal to each of its kernels, across and down."""
    kernel = Doubling(4, 4, is_smooth=True).kernel()
    alternating = torch.tensor([1.0, -1.0] * 3)

    for axis in (2, 3):
        torch.testing.assert_close((kernel.movedim(axis, -1) @ alternating), torch.zeros(4, 4, 6), atol=1e-6, rtol=0)


def test_parts_are_projections_of_each_other() -> None:
    """A smooth kernel keeps straight lines, and linear interpolation is smooth."""
    straight, smooth = straight_part(CPU), smooth_part(CPU)
    interpolation = linear_interpolation(CPU).flatten()

    assert (torch.linalg.matrix_rank(straight), torch.linalg.matrix_rank(smooth)) == (27, 16)
    torch.testing.assert_close(straight @ straight, straight)
    torch.testing.assert_close(smooth @ straight, smooth)
    torch.testing.assert_close(interpolation @ smooth, interpolation)


def test_doubling_without_weights_interpolates_means_of_channels() -> None:
    """The shortcut alone: torch's own interpolation gives the same inside."""
    layer = ShortcutDoubling(4, 2)
    for parameter in layer.parameters():
        torch.nn.init.zeros_(parameter)
    features = torch.randn(1, 4, 5, 6)
    means = features.view(1, 2, 2, 5, 6).mean(2)
    expected = torch.nn.functional.interpolate(means, scale_factor=2, mode="bilinear")

    torch.testing.assert_close(layer(features)[:, :, 1:-1, 1:-1], expected[:, :, 1:-1, 1:-1])


@pytest.mark.parametrize("channels_out", [4, 8, 16])
def test_halving_without_weights_gives_means_of_squares(channels_out: int) -> None:
    """The shortcut alone is the paper's: squares become channels, which are averaged in groups."""
    layer = ShortcutHalving(4, channels_out)
    for parameter in layer.parameters():
        torch.nn.init.zeros_(parameter)
    features = torch.randn(2, 4, 6, 8)
    squares = torch.nn.functional.pixel_unshuffle(features, 2)

    torch.testing.assert_close(layer(features), squares.unflatten(1, (channels_out, -1)).mean(2))


def test_places_of_a_doubling_are_channels_of_a_convolution() -> None:
    """ONNX Runtime computes a doubling in this way."""
    layer, features = Doubling(3, 5), torch.randn(2, 3, 4, 6)
    assert layer.bias is not None

    places = torch.conv2d(extended(features), layer.kernel_of_places(), layer.bias.repeat_interleave(4))

    torch.testing.assert_close(torch.pixel_shuffle(places, 2), layer(features))
