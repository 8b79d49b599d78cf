"""Complexity: the information in a picture, as a lossless codec finds it."""

import math

import numpy as np

from model_store.complexity import codec_nats

DRAWN = np.random.default_rng(0)


def test_noise_has_the_information_of_its_pixels() -> None:
    """No codec makes uniform noise smaller: 8 bits a value, and 1 bit for each black or white pixel."""
    grey = DRAWN.integers(0, 256, (1, 3, 64, 64), dtype=np.uint8)
    binary = 255 * DRAWN.integers(0, 2, (1, 1, 64, 64), dtype=np.uint8)

    np.testing.assert_allclose(codec_nats(grey), 3 * 64 * 64 * 8 * math.log(2), rtol=0.01)
    np.testing.assert_allclose(codec_nats(binary), 64 * 64 * math.log(2), rtol=0.03)


def test_simple_pictures_have_less() -> None:
    """An empty picture has almost none, a gradient little, whichever way it rises."""
    empty = np.zeros((1, 1, 64, 64), np.uint8)
    across = np.broadcast_to(np.arange(64, dtype=np.uint8) * 3, (1, 1, 64, 64)).copy()
    noise = DRAWN.integers(0, 256, (1, 1, 64, 64), dtype=np.uint8)

    found = [codec_nats(each)[0] for each in (empty, across, across.transpose(0, 1, 3, 2).copy(), noise)]

    assert found[0] < found[1] < found[3] / 20
    assert found[2] < found[3] / 20
