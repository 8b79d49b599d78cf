"""The bodies of requests, the same bytes for every server, and the right answers to them.

The pictures are MNIST's test digits if a folder has them, else strokes made from a seed. For the colour network they
are smooth colours with grain; as a PNG they are about as large as a photo of that size.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from model_store import VAE
from model_store.pictures import pixels_to_picture
from model_store.vae.noise import standard_normal
from model_store.vae.pixels import to_images, to_pixels
from training.sources import idx

from .cases import IMAGES_PER_BATCH

SEED = 0
SINGLE_PICTURES = 16  # sent in turn, so that a server cannot cache its last answer
AT_ONCE = 16  # images in a forward pass; more large ones would need too much memory
GRAIN = 5.0  # standard deviation in grey values; it decides how large the PNG is


@dataclass(frozen=True)
class Material:
    """Inputs of one network and the right answers: `count` images, latents, reconstructions.

    `pixels` uint8 (B, C, H, W), `latents` float32 (B, D), `decoded` uint8 (B, C, H, W); `pngs` are the first pictures.
    """

    pixels: Tensor
    latents: Tensor
    decoded: Tensor
    pngs: tuple[bytes, ...]


def material(model: VAE, data: Path | None, count: int = IMAGES_PER_BATCH) -> Material:
    """Pictures of the model's shape, with the outputs of our own forward pass in torch."""
    pixels = pictures(model.config.image_shape, data, count)
    with torch.inference_mode():
        latents = torch.cat([model.encode(to_images(part)).mean for part in torch.split(pixels, AT_ONCE)])
        decoded = torch.cat([to_pixels(model.decode(part).mean) for part in torch.split(latents, AT_ONCE)])
    return Material(pixels, latents, decoded, tuple(map(png, pixels[:SINGLE_PICTURES])))


def pictures(shape: tuple[int, int, int], data: Path | None, count: int) -> Tensor:
    """Pixels uint8 (count, C, H, W): digits where they fit and are at hand, else pictures made from the seed."""
    if shape == (1, 28, 28) and data is not None:
        splits = idx.read_family(data)
        return (splits.train if splits.test is None else splits.test)[:count]
    return strokes(shape, count) if shape[0] == 1 else photos(shape, count)


def strokes(shape: tuple[int, int, int], count: int) -> Tensor:
    """White blobs along a random path on black, uint8 (count, C, H, W): a PNG of about a digit's size."""
    _, height, width = shape
    ends = torch.from_numpy(np.random.default_rng(SEED).uniform(0.2, 0.8, (count, 4, 2))).float()
    path = torch.nn.functional.interpolate(ends.transpose(1, 2), 20, mode="linear", align_corners=True)  # (N, 2, 20)
    rows = (torch.arange(height) + 0.5)[:, None, None] / height
    columns = (torch.arange(width) + 0.5)[None, :, None] / width
    distance = (rows - path[:, 0, None, None]) ** 2 + (columns - path[:, 1, None, None]) ** 2
    ink = torch.exp(-distance.amin(-1) / 0.002)  # (N, H, W)
    return to_pixels(ink.where(ink > 0.05, 0)).unsqueeze(1).expand(-1, *shape).contiguous()


def photos(shape: tuple[int, int, int], count: int) -> Tensor:
    """Smooth random colours with grain, uint8 (count, C, H, W)."""
    channels, height, width = shape
    coarse = standard_normal(SEED, count, (channels, 5, 5))
    smooth = torch.nn.functional.interpolate(coarse, (height, width), mode="bicubic", align_corners=True)
    grain = standard_normal(SEED + 1, count, shape) * (GRAIN / 255)
    return to_pixels(torch.sigmoid(smooth) + grain)


def png(pixels: Tensor) -> bytes:
    """A PNG of uint8 pixels (C, H, W), as Pillow writes it by default."""
    buffer = io.BytesIO()
    pixels_to_picture(pixels.numpy()).save(buffer, "PNG")
    return buffer.getvalue()


def npy(values: Tensor) -> bytes:
    """An npy file."""
    buffer = io.BytesIO()
    np.save(buffer, values.numpy(), allow_pickle=False)
    return buffer.getvalue()


def channels_last(pixels: Tensor) -> Tensor:
    """uint8 (B, C, H, W) as npy bodies hold it, (B, H, W, C)."""
    return pixels.permute(0, 2, 3, 1).contiguous()


def read_npy(content: bytes) -> NDArray[np.generic]:
    """The array of an npy file.

    Raises:
        ValueError: it is none.
    """
    array: NDArray[np.generic] = np.load(io.BytesIO(content), allow_pickle=False)
    return array


def read_picture(content: bytes) -> Image.Image:
    """Read a whole picture.

    Raises:
        OSError: it cannot be read.
    """
    picture = Image.open(io.BytesIO(content), formats=("PNG",))
    picture.load()
    return picture
