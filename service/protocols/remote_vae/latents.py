"""The bytes of a body become latents as a decoder reads them: unpacked, and without their scaling."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from model_store.families import ModelConfig
from model_store.vae.scaling import Scaling
from model_store.vae.sentences import shape_text

from ...errors import BadValue
from ...formats.raw_tensors import read_raw
from ...operations.scaling import unscaled
from .query import SentTensor

_PATCH = 2  # a side of the patches of Flux


class Layout(NamedTuple):
    """The shape (B, *latent_shape) of latents, and whether they have been sent as packed patches."""

    shape: tuple[int, ...]
    is_packed: bool = False


def layout_of(shape: Sequence[int], config: ModelConfig, height: int | None, width: int | None) -> Layout:
    """The layout of latents that have been sent in a shape, as images of a height and width.

    Flux packs latents (B, D, h, w) into rows of patches (B, h/2 · w/2, 4D); SD.Next leaves out the axis B of a single
    latent. Both have three dimensions, and the height and width of the image tell them apart.

    Raises:
        BadValue: the patches do not fit the height and the width.
    """
    if config.takes_any_size and len(shape) == 3 and shape[2] == _PATCH**2 * (config.latent_shape[0] or 0):
        count, rows, values = shape
        pixels = config.multiple * _PATCH  # of a side of a patch
        patches = (height or 0) // pixels, (width or 0) // pixels
        if rows == patches[0] * patches[1]:
            return Layout((count, values // _PATCH**2, patches[0] * _PATCH, patches[1] * _PATCH), is_packed=True)
        is_unpacked = count == config.latent_shape[0]
        is_of_size = not (height or width) or patches == (rows // _PATCH, values // _PATCH)
        if not (is_unpacked and is_of_size):
            raise BadValue(
                f"The packed latents {shape_text(shape)} have {rows} patches of {pixels}×{pixels} pixels, but an image "
                f"of {height or 0}×{width or 0} has {patches[0] * patches[1]}; send the height and width of the image."
            )
    return Layout((1, *shape) if len(shape) == len(config.latent_shape) else tuple(shape))


def read_latents(body: bytes, sent: SentTensor, layout: Layout, scaling: Scaling) -> Tensor:
    """Latents float32 (B, *latent_shape) as a decoder reads them, from a body of the right length."""
    latents = read_raw(body, sent.shape, sent.dtype).to(torch.float32)
    latents = unpacked(latents, *layout.shape[2:]) if layout.is_packed else latents.reshape(layout.shape)
    return unscaled(latents, scaling)


def unpacked(packed: Tensor, height: int, width: int) -> Tensor:
    """Latents (B, D, height, width) from rows of 2×2 patches (B, height/2 · width/2, 4D), as Flux packs them."""
    count, _, values = packed.shape
    rows, columns, channels = height // _PATCH, width // _PATCH, values // _PATCH**2
    patches = packed.reshape(count, rows, columns, channels, _PATCH, _PATCH)
    return patches.permute(0, 3, 1, 4, 2, 5).reshape(count, channels, height, width)
