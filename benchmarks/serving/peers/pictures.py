"""PNG to pixels and back with Pillow at its defaults, as a user would; in the peers' environments."""

from __future__ import annotations

import io

import numpy as np
import torch
from PIL import Image
from torch import Tensor


def read(content: bytes) -> Tensor:
    """uint8 pixels (C, H, W) of a grey or RGB picture."""
    values = torch.from_numpy(np.array(Image.open(io.BytesIO(content), formats=("PNG",))))
    return values.unsqueeze(0) if values.dim() == 2 else values.permute(2, 0, 1)


def write(pixels: Tensor) -> bytes:
    """A PNG of uint8 pixels (C, H, W)."""
    values = pixels.permute(1, 2, 0).numpy()
    buffer = io.BytesIO()
    Image.fromarray(values[:, :, 0] if len(pixels) == 1 else values).save(buffer, "PNG")
    return buffer.getvalue()
