"""The figures that are published with a version."""

import io

import pytest
import torch
from PIL import Image

from training.evaluate.figures import figures

from ...conftest import GREY, make_model


@pytest.mark.parametrize("images", [1, 2, 3, 16, 17])
def test_any_number_of_test_images_has_its_figures(images: int) -> None:
    """Small folders leave a single image to test with."""
    test = torch.zeros(images, *GREY.image_shape, dtype=torch.uint8)

    found = figures(make_model(GREY), test)

    assert found.keys() == {"samples.png", "reconstructions.png"}
    assert all(min(Image.open(io.BytesIO(content)).size) >= 448 for content in found.values())
