"""The bytes of answers that are pictures or JSON.

This module does not import torch: a large answer is written in a process.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from typing import Any

import orjson

from model_store.pictures import Pixels

from ...formats import pictures


def write_images_json(members: Mapping[str, Any], runs: Sequence[Pixels]) -> bytes:
    """JSON of the members and of images as base64 PNG, from pixels uint8 (B, C, H, W) for each run of a size."""
    images = (image for pixels in runs for image in pixels)
    encoded = [base64.b64encode(pictures.encode(image[None], "png")).decode() for image in images]
    return write_json({**members, "images": encoded})


def write_json(members: Mapping[str, Any]) -> bytes:
    """JSON, with arrays as nested lists.

    Each float32 has the fewest digits that give it back exactly, and an infinite number is null.
    """
    return orjson.dumps(members, option=orjson.OPT_SERIALIZE_NUMPY)
