"""Encoded pictures ↔ uint8 pixels. The only file of the service that knows Pillow.

A picture's size is read from its header and checked before a pixel is decoded. Arrays take the same way behind it, so
that an image has the same pixels in every form.
"""

from __future__ import annotations

import io
import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, Literal

import torch
from PIL import Image, PngImagePlugin, UnidentifiedImageError
from torch import Tensor

from model_store import ModelVersion
from model_store.pictures import Resize, UnusablePicture, picture_to_pixels, pixels_to_picture
from model_store.vae.pixels import contact_sheet

from ..errors import BadImage, TooLarge, UnsupportedMediaType, WrongShape, about_row
from . import png

PictureFormat = Literal["png", "jpeg", "webp"]
MEDIA_TYPES: dict[PictureFormat, str] = {"png": "image/png", "jpeg": "image/jpeg", "webp": "image/webp"}

_READ = ("PNG", "JPEG", "WEBP")
_ENDS = {"PNG": b"IEND\xaeB`\x82", "JPEG": b"\xff\xd9", "MPO": b"\xff\xd9"}  # Pillow does not ask for them
_SMALLER = "send it smaller, or raise max_pixels where the service is started"
_FEWER = "send fewer or smaller ones in one request"
_OTHER_FORMATS = {
    b"GIF8": "GIF", b"BM": "BMP", b"II*\0": "TIFF", b"MM\0*": "TIFF", b"%!PS": "PostScript", b"%PDF": "PDF",
    b"8BPS": "PSD", b"<svg": "SVG", b"<?xml": "SVG", b"\0\0\0\x0cjP": "JPEG-2000",
}  # fmt: skip
_SAVE_OPTIONS: dict[PictureFormat, dict[str, Any]] = {"jpeg": {"quality": 95}, "webp": {"lossless": True}}
_LONGEST_SIDE = {"webp": 16_383, "jpeg": 65_500}  # what the formats, and Pillow's encoders, can hold
_STILL_WITH_MORE = "MPO"  # a phone's JPEG: a picture, and behind it others that it was made of
_BOMB = (Image.DecompressionBombError, Image.DecompressionBombWarning)
_MOST_PARTS = 100  # ten times as many as a progressive picture has scans
_PARTS = {  # by a file's first bytes, those that cost more than they weigh; among so many random bytes one may seem so
    b"\xff\xd8": {
        "scans": (re.compile(rb"\xff\xda"), 65_536),  # each is a pass over all pixels
        "segments": (re.compile(rb"\xff[\xe0-\xef\xfe]"), 2_048),  # four bytes become a hundred
        "blocks of EXIF": (re.compile(rb"Exif\0\0"), 65_536),  # those before it are copied for each
    },
    b"\x89P": {"colour profiles": (re.compile(rb"iCCP"), 2**32)},  # each may unpack to a megabyte
}
_KEPT = {"transparency", "interlace", "exif", "Raw profile type exif", "xmp", "XML:com.adobe.xmp"}

# Bytes of text that a PNG has unpacked while its header is read. Pillow knows the limit only for the whole process.
PngImagePlugin.MAX_TEXT_MEMORY = 1_048_576


@dataclass(frozen=True)
class Target:
    """The images that a model takes, how other sizes are brought to it, and what may be decoded at most."""

    model: ModelVersion
    image_shape: tuple[int, int, int]
    resize: Resize
    max_pixels: int
    max_request_pixels: int


@dataclass(frozen=True)
class Opened:
    """A picture whose header has been read, or made of an array, and the name that errors give it."""

    name: str
    picture: Image.Image

    @property
    def pixels(self) -> int:
        """How many it claims to have."""
        return self.picture.width * self.picture.height


def open_all(contents: Sequence[bytes], target: Target) -> list[Opened]:
    """Pictures with their headers read and their sizes found affordable. No pixel is decoded, but text is unpacked.

    Raises:
        UnsupportedMediaType: something else than PNG, JPEG or WebP.
        TooLarge: one picture, or all together, have too many pixels.
        BadImage: a header cannot be read, the file is cut off, the picture moves, or is made of too many parts.
        WrongShape: one has another size than the model's, and `resize` is `none`.
    """
    pictures, total = [], 0
    for index, content in enumerate(contents):
        with about_row(index):
            opened = _open(_name(index, len(contents)), content, target)
        total += opened.pixels
        if total > target.max_request_pixels:
            raise TooLarge("The request", size=None, limit=target.max_request_pixels, unit="pixels", remedy=_FEWER)
        pictures.append(opened)
    return pictures


def decode(pictures: Sequence[Opened], target: Target) -> Tensor:
    """Pixels uint8 (B, C, H, W) of opened pictures.

    Raises:
        BadImage: one cannot be read.
        WrongShape: one has another size than the model's when it stands upright, and `resize` is `none`.
    """
    rows = []
    for index, opened in enumerate(pictures):
        with about_row(index):
            rows.append(_pixels(opened, target))
    return torch.stack(rows) if len(rows) > 1 else rows[0].unsqueeze(0)


def check_array(pixels: Tensor, target: Target) -> None:
    """Raise TooLarge if the images of an array (B, C, H, W) have too many pixels, one alone or all together."""
    count, _, height, width = pixels.shape
    if height * width > target.max_pixels:
        raise TooLarge("An image", size=height * width, limit=target.max_pixels, unit="pixels", remedy=_SMALLER)
    if (total := count * height * width) > target.max_request_pixels:
        raise TooLarge("The request", size=total, limit=target.max_request_pixels, unit="pixels", remedy=_FEWER)


def fit(pixels: Tensor, target: Target) -> Tensor:
    """Pixels uint8 (B, *image_shape) from an array's (B, C, H, W), as if each image had come as a picture.

    Raises:
        WrongShape: the images have another size than the model's, and `resize` is `none`.
    """
    if pixels.shape[1:] == target.image_shape:
        return pixels
    return decode(
        [Opened(_name(index, len(pixels)), pixels_to_picture(image)) for index, image in enumerate(pixels)], target
    )


def encode(pixels: Tensor, picture_format: PictureFormat, columns: int | None = None) -> bytes:
    """One picture of uint8 pixels (B, C, H, W): the image, or a grid of several, row by row."""
    image = pixels[0] if len(pixels) == 1 else contact_sheet(pixels, columns)
    if picture_format == "png":
        return png.write(image.permute(1, 2, 0).numpy())
    picture = pixels_to_picture(image)
    if (side := max(picture.size)) > (limit := _LONGEST_SIDE.get(picture_format, side)):
        raise TooLarge(
            f"The {picture_format} picture",
            size=side,
            limit=limit,
            unit="pixels a side",
            remedy="ask for fewer images, or for png or npy",
        )
    buffer = io.BytesIO()
    picture.save(buffer, picture_format, **_SAVE_OPTIONS[picture_format])
    return buffer.getvalue()


def _name(index: int, count: int) -> str:
    return "The picture" if count == 1 else f"Picture {index + 1}"


def _open(name: str, content: bytes, target: Target) -> Opened:
    _check_parts(name, content)
    picture = _header(name, content, target)
    _forget(picture)
    opened = Opened(name, picture)
    if opened.pixels > target.max_pixels:
        raise TooLarge(name, size=opened.pixels, limit=target.max_pixels, unit="pixels", remedy=_SMALLER)
    if target.resize == "none" and sorted(picture.size) != sorted(target.image_shape[1:]):
        raise _wrong_size(name, picture.height, picture.width, target)
    return opened


def _check_parts(name: str, content: bytes) -> None:
    """Refuse a picture of a few kilobytes that takes minutes."""
    for parts, (mark, chance_bytes) in _PARTS.get(content[:2], {}).items():
        limit = _MOST_PARTS + len(content) // chance_bytes
        if next(islice(mark.finditer(content), limit, None), None):
            raise BadImage(name, f"it has more than {limit:,} {parts}; save it anew")


def _forget(picture: Image.Image) -> None:
    """Keep of what else is in the file what is asked for later; else a request could have much of it kept."""
    if picture.info:
        for name in picture.info.keys() - _KEPT:
            del picture.info[name]
    if isinstance(picture, PngImagePlugin.PngImageFile):
        picture.private_chunks.clear()
        (picture.png.im_text if picture.png else picture.text).clear()


def _header(name: str, content: bytes, target: Target) -> Image.Image:
    file = io.BytesIO(content)
    try:
        picture = Image.open(file, formats=_READ)
        pixels_at = file.tell()
        moves = getattr(picture, "is_animated", False) and picture.format != _STILL_WITH_MORE
    except UnidentifiedImageError as error:
        for opening, other in _OTHER_FORMATS.items():
            if content.startswith(opening):
                raise UnsupportedMediaType(other, MEDIA_TYPES.values(), what="picture format") from error
        raise BadImage(name, "it is no PNG, JPEG or WebP") from error
    except _BOMB as error:
        raise TooLarge(name, size=None, limit=target.max_pixels, unit="pixels", remedy=_SMALLER) from error
    except Exception as error:  # whatever a broken file makes Pillow raise
        raise BadImage(name, "its header is broken") from error
    if content.find(_ENDS.get(picture.format or "", b""), pixels_at) < 0:
        raise BadImage(name, "it is broken or cut off")
    if moves:
        raise BadImage(name, "it has several frames; send one as a picture of its own")
    return picture


def _pixels(opened: Opened, target: Target) -> Tensor:
    try:
        opened.picture.load()
    except _BOMB as error:
        raise TooLarge(opened.name, size=None, limit=target.max_pixels, unit="pixels", remedy=_SMALLER) from error
    except Exception as error:  # whatever a broken file makes Pillow raise
        raise BadImage(opened.name, "it is broken or cut off") from error
    _forget(opened.picture)  # more can stand behind the pixels
    try:
        pixels = picture_to_pixels(opened.picture, target.image_shape, target.resize)
    except UnusablePicture as error:
        raise BadImage(opened.name, str(error)) from error
    if tuple(pixels.shape) != target.image_shape:
        raise _wrong_size(opened.name, pixels.shape[1], pixels.shape[2], target)
    return pixels


def _wrong_size(name: str, height: int, width: int, target: Target) -> WrongShape:
    return WrongShape(
        f"{name} is",
        got=(height, width),
        model=target.model,
        expected=target.image_shape[1:],
        remedy="ask for resize=contain (pad), cover (crop) or stretch",
    )
