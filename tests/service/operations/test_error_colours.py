"""The colours of an error map depend on the normal images, not on the map itself."""

import torch

from service.operations.error_colours import coloured

QUANTILES = tuple(number / 10 for number in range(101))


def test_ordinary_picture_is_dark() -> None:
    """A picture with small errors has no bright spot, though one of its errors is its largest."""
    ordinary = torch.tensor([[[0.1, 2.0], [3.0, 4.9]]])

    assert coloured(ordinary, QUANTILES).max() <= 50


def test_larger_error_is_brighter() -> None:
    """From nothing over the largest normal error to white beyond all normal ones."""
    errors = torch.tensor([[[0.0, 5.0, 9.0, 9.9, 10.0, 10.1]]])

    brightness = coloured(errors, QUANTILES).float().sum(1).flatten()

    assert brightness.diff().gt(0).all()
    assert coloured(errors, QUANTILES)[0, :, 0, -1].tolist() == [255, 255, 255]


def test_same_error_has_the_same_colour_in_every_picture() -> None:
    """The scale never depends on the picture's own largest error."""
    alone = coloured(torch.full((1, 1, 1), 9.5), QUANTILES)
    beside = coloured(torch.tensor([[[9.5, 1000.0]]]), QUANTILES)

    assert beside[0, :, 0, 0].tolist() == alone[0, :, 0, 0].tolist()
