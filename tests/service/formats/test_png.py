"""Our PNG files, read back by Pillow."""

import io

import numpy as np
import pytest
from PIL import Image

from service.formats import png


@pytest.mark.parametrize("shape", [(1, 1, 1), (28, 28, 1), (1, 5, 3), (7, 1, 3), (33, 65, 3)])
def test_picture_is_what_was_written(shape: tuple[int, int, int]) -> None:
    """Bit for bit, grey and RGB, one pixel wide or many."""
    pixels = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)

    with Image.open(io.BytesIO(png.write(pixels))) as picture:
        picture.load()
        assert (picture.format, picture.mode) == ("PNG", "L" if shape[2] == 1 else "RGB")
        assert np.array_equal(np.asarray(picture).reshape(shape), pixels)


def test_smooth_picture_is_compressed() -> None:
    """The differences within a gradient are all alike, and compress to a small part of its bytes."""
    gradient = np.broadcast_to(np.arange(256, dtype=np.uint8)[None, :, None], (256, 256, 3))

    assert len(png.write(gradient)) < gradient.size / 50


def test_array_in_any_memory_order_is_written_alike() -> None:
    """A tensor with channels first is passed as a view with channels last."""
    pixels = np.random.default_rng(0).integers(0, 256, (3, 4, 5), dtype=np.uint8).transpose(1, 2, 0)

    assert png.write(pixels) == png.write(np.ascontiguousarray(pixels))
