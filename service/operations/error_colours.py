"""The colours of an error map: a pixel's error beside the errors of the pixels of normal images.

A map never takes its own maximum as its scale: otherwise the most ordinary picture would have a glaring spot.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from model_store.score_statistics import POINTS, Quantiles

# Percentiles among the pixels of normal images, and the colours there: dark up to the upper tenth, and from then on
# ever brighter.
_PERCENTILES = (0.0, 50.0, 90.0, 99.0, 100.0)
_COLOURS = ((0, 0, 0), (20, 20, 50), (60, 50, 140), (240, 140, 30), (255, 240, 100))
_BEYOND = (255, 255, 255)  # of errors that are larger than all normal ones


def coloured(error_map: Tensor, quantiles: Quantiles) -> Tensor:
    """uint8 pixels (B, 3, H, W) of errors in nats (B, H, W); `quantiles` are of the pixels of normal images.

    White is an error above the largest normal one.
    """
    errors = error_map.numpy()
    ranks = np.interp(errors, quantiles, np.linspace(0, 100, POINTS))
    channels = [np.interp(ranks, _PERCENTILES, values) for values in zip(*_COLOURS, strict=True)]
    colours = np.stack(channels, axis=1)
    is_beyond = errors > quantiles[-1]
    colours = np.where(is_beyond[:, None], np.asarray(_BEYOND).reshape(1, 3, 1, 1), colours)
    return torch.from_numpy(colours.round().astype(np.uint8))
