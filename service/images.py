"""Encoded pictures ↔ uint8 pixels. The only file of the service that knows Pillow.

A picture's size is read from its header and checked before a pixel is decoded.
"""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from PIL import Image, UnidentifiedImageError
from torch import Tensor

from model_store import ModelVersion
from model_store.pictures import Resize, picture_to_pixels, pixels_to_picture
from model_store.vae.pixels import grid

from .errors import BadImage, TooLarge, UnsupportedMediaType, WrongShape

PictureFormat = Literal["png", "jpeg", "webp"]
MEDIA_TYPES: dict[PictureFormat, str] = {"png": "image/png", "jpeg": "image/jpeg", "webp": "image/webp"}

_READ = ("PNG", "JPEG", "WEBP")
_OTHER_FORMATS = (b"GIF8", b"BM", b"II*\0", b"MM\0*", b"%!PS", b"%PDF", b"8BPS", b"<svg", b"<?xml", b"\0\0\0\x0cjP")
_SAVE_OPTIONS: dict[PictureFormat, dict[str, Any]] = {"png": {}, "jpeg": {"quality": 95}, "webp": {"lossless": True}}
_BROKEN = (OSError, ValueError, SyntaxError, EOFError, OverflowError, struct.error, zlib.error)
_BOMB = (Image.DecompressionBombError, Image.DecompressionBombWarning)


@dataclass(frozen=True)
class Target:
    """The images that a model takes, how other sizes are brought to it, and what may be decoded at most."""

    model: ModelVersion
    image_shape: tuple[int, int, int]
    resize: Resize
    max_pixels: int
    max_request_pixels: int


def decode(contents: Sequence[bytes], target: Target) -> Tensor:
    """Pixels uint8 (B, C, H, W) of encoded pictures.

    Raises:
        UnsupportedMediaType: something else than PNG, JPEG or WebP.
        TooLarge: one picture, or all together, have too many pixels.
        BadImage: one cannot be read, or moves.
        WrongShape: one has another size than the model's, and `resize` is `none`.
    """
    names = ["The picture"] if len(contents) == 1 else [f"Picture {number}" for number in range(1, len(contents) + 1)]
    pictures = list(_opened(contents, names, target))
    return torch.stack([_pixels(picture, name, target) for picture, name in zip(pictures, names, strict=True)])


def encode(pixels: Tensor, picture_format: PictureFormat) -> bytes:
    """One picture of uint8 pixels (B, C, H, W): the image, or a grid of several, row by row."""
    picture = pixels_to_picture(pixels[0] if len(pixels) == 1 else grid(pixels))
    buffer = io.BytesIO()
    picture.save(buffer, picture_format, **_SAVE_OPTIONS[picture_format])
    return buffer.getvalue()


def _opened(contents: Sequence[bytes], names: Sequence[str], target: Target) -> Iterator[Image.Image]:
    """The pictures with their headers read and their sizes found affordable."""
    total = 0
    for content, name in zip(contents, names, strict=True):
        picture = _open(content, name, target)
        size = picture.width * picture.height
        if size > target.max_pixels:
            raise TooLarge(name, size=size, limit=target.max_pixels, unit="pixels")
        total += size
        if total > target.max_request_pixels:
            raise TooLarge("The request", size=None, limit=target.max_request_pixels, unit="pixels")
        if target.resize == "none" and sorted(picture.size) != sorted(target.image_shape[1:]):
            raise _wrong_size(name, picture.height, picture.width, target)
        yield picture


def _open(content: bytes, name: str, target: Target) -> Image.Image:
    try:
        picture = Image.open(io.BytesIO(content), formats=_READ)
        moves = getattr(picture, "is_animated", False)
    except UnidentifiedImageError as error:
        if content.startswith(_OTHER_FORMATS):
            raise UnsupportedMediaType(MEDIA_TYPES.values(), what="picture format") from error
        raise BadImage(name, "it is no PNG, JPEG or WebP") from error
    except _BOMB as error:
        raise TooLarge(name, size=None, limit=target.max_pixels, unit="pixels") from error
    except _BROKEN as error:
        raise BadImage(name, "its header is broken") from error
    if moves:
        raise BadImage(name, "it has several frames; send one as a picture of its own")
    return picture


def _pixels(picture: Image.Image, name: str, target: Target) -> Tensor:
    try:
        pixels = picture_to_pixels(picture, target.image_shape, target.resize)
    except _BOMB as error:
        raise TooLarge(name, size=None, limit=target.max_pixels, unit="pixels") from error
    except _BROKEN as error:
        raise BadImage(name, "it is broken or cut off") from error
    if tuple(pixels.shape) != target.image_shape:
        raise _wrong_size(name, pixels.shape[1], pixels.shape[2], target)
    return pixels


def _wrong_size(name: str, height: int, width: int, target: Target) -> WrongShape:
    return WrongShape(
        f"{name} is",
        got=(height, width),
        model=target.model,
        expected=target.image_shape[1:],
        remedy="ask for resize=contain (pad), cover (crop) or stretch",
    )
