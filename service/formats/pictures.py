"""Encoded pictures to uint8 pixels and back. The only file of the service that knows Pillow.

A picture's size is read from its header and checked before a pixel is decoded. An image in an array is resized by the
same code as a picture, so that it has the same pixels in every format.
"""

from __future__ import annotations

import io
import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, Literal, NamedTuple

import numpy as np
from PIL import Image, PngImagePlugin, UnidentifiedImageError

from model_store.pictures import (
    Pixels,
    Resize,
    UnusablePicture,
    contact_sheet,
    picture_to_pixels,
    pixels_to_picture,
)
from model_store.version import ModelVersion

from ..errors import BadImage, TooLarge, UnsupportedMediaType, WrongShape, about_row
from . import png

PictureFormat = Literal["png", "jpeg", "webp"]
MEDIA_TYPES: dict[PictureFormat, str] = {"png": "image/png", "jpeg": "image/jpeg", "webp": "image/webp"}

_READ = ("PNG", "JPEG", "WEBP")
_END_MARKERS = {"PNG": b"IEND\xaeB`\x82", "JPEG": b"\xff\xd9", "MPO": b"\xff\xd9"}  # Pillow reads files without them
_OTHER_FORMATS = {
    b"GIF8": "GIF", b"BM": "BMP", b"II*\0": "TIFF", b"MM\0*": "TIFF", b"%!PS": "PostScript", b"%PDF": "PDF",
    b"8BPS": "PSD", b"<svg": "SVG", b"<?xml": "SVG", b"\0\0\0\x0cjP": "JPEG-2000",
    b"ftypheic": "HEIC", b"ftypheix": "HEIC", b"ftypmif1": "HEIF", b"ftypavif": "AVIF", b"ftypavis": "AVIF",
}  # fmt: skip
_SAVE_OPTIONS: dict[PictureFormat, dict[str, Any]] = {"jpeg": {"quality": 95}, "webp": {"lossless": True}}
_LONGEST_SIDE = {"webp": 16_383, "jpeg": 65_500}  # pixels: limits of the formats and of Pillow's encoders
_JPEG_WITH_EXTRAS = "MPO"  # a phone's JPEG: one picture, followed by the pictures from which the phone computed it
_BOMB = (Image.DecompressionBombError, Image.DecompressionBombWarning)
_DAMAGED = "it is damaged or cut off"


class _Marker(NamedTuple):
    """A marker in a picture file that costs far more time or memory than its few bytes.

    Attributes:
        parts: its name in messages.
        pattern: of its bytes.
        chance_bytes: size of a file of random bytes that contains the pattern once by chance.
    """

    parts: str
    pattern: re.Pattern[bytes]
    chance_bytes: int


_MAX_MARKERS = 100  # of each kind in one file, beside those by chance: a progressive JPEG has about ten scans
_EXPENSIVE_MARKERS = {  # by the first bytes of a file
    b"\xff\xd8": (
        _Marker("scans", re.compile(rb"\xff\xda"), 65_536),  # each is a pass over all pixels
        _Marker("segments", re.compile(rb"\xff[\xe0-\xef\xfe]"), 2_048),  # Pillow makes 100 bytes of each four
        _Marker("blocks of EXIF", re.compile(rb"Exif\0\0"), 65_536),  # Pillow copies the earlier ones for each
    ),
    b"\x89P": (_Marker("colour profiles", re.compile(rb"iCCP"), 2**32),),  # each may unpack to a megabyte
}
# Of a picture's metadata, what Pillow reads later: to convert the pixels, and to turn the picture upright.
_METADATA_KEPT = {"transparency", "interlace", "exif", "Raw profile type exif", "xmp", "XML:com.adobe.xmp"}

# Bytes of text that Pillow unpacks in the header of a PNG; it has this limit for the whole process only.
PngImagePlugin.MAX_TEXT_MEMORY = 1_048_576


@dataclass(frozen=True)
class Target:
    """The shape of a model's images, the way to resize other images, and the number of pixels that may be decoded."""

    model: ModelVersion
    image_shape: tuple[int, int, int]
    resize: Resize
    max_pixels: int
    max_request_pixels: int

    def image_too_large(self, name: str, pixels: int | None = None) -> TooLarge:
        """The error for one image; `pixels` is its size, where it is known."""
        remedy = "send it smaller, or raise max_pixels where the service is started"
        return TooLarge(name, size=pixels, limit=self.max_pixels, unit="pixels", remedy=remedy)

    def request_too_large(self, pixels: int | None = None) -> TooLarge:
        """The error for all images of a request together."""
        remedy = "send fewer or smaller ones in one request"
        return TooLarge("The request", size=pixels, limit=self.max_request_pixels, unit="pixels", remedy=remedy)

    def wrong_size(self, name: str, height: int, width: int) -> WrongShape:
        """The error for an image that is not resized, though it has another size than the model's."""
        return WrongShape(
            f"{name} is",
            got=(height, width),
            model=self.model,
            expected=self.image_shape[1:],
            remedy="ask for resize=contain (pad), cover (crop) or stretch",
        )


@dataclass(frozen=True)
class Opened:
    """A picture whose header has been read, or that was made from an array; errors show the name."""

    name: str
    picture: Image.Image

    @property
    def pixels(self) -> int:
        """The number of pixels, according to its header."""
        return self.picture.width * self.picture.height


def open_all(contents: Sequence[bytes], target: Target) -> list[Opened]:
    """Read the headers of pictures and check their sizes. No pixel is decoded, but text in a header is unpacked.

    Raises:
        UnsupportedMediaType: a picture is in another format than PNG, JPEG or WebP.
        TooLarge: one picture has too many pixels, or all of them together.
        BadImage: a header cannot be read, a file is cut off, has too many parts, or is an animation.
        WrongShape: a picture has another size than the model's, and `resize` is `none`.
    """
    pictures, total = [], 0
    for index, content in enumerate(contents):
        with about_row(index):
            opened = open_picture(_name(index, len(contents)), content, target)
        total += opened.pixels
        if total > target.max_request_pixels:
            raise target.request_too_large()  # its size is not known before all pictures are open
        pictures.append(opened)
    return pictures


def decode(pictures: Sequence[Opened], target: Target) -> Pixels:
    """Pixels uint8 (B, C, H, W) of opened pictures.

    Raises:
        TooLarge: a picture has more pixels than Pillow decodes.
        BadImage: a picture cannot be read.
        WrongShape: an upright picture has another size than the model's, and `resize` is `none`.
    """
    rows = []
    for index, opened in enumerate(pictures):
        with about_row(index):
            rows.append(decode_picture(opened, target))
    return np.stack(rows) if len(rows) > 1 else rows[0][np.newaxis]


def check_array(shape: Sequence[int], target: Target) -> None:
    """Raise TooLarge if one image of an array (B, C, H, W) has too many pixels, or all of them together."""
    count, _, height, width = shape
    if height * width > target.max_pixels:
        raise target.image_too_large("An image", height * width)
    if (total := count * height * width) > target.max_request_pixels:
        raise target.request_too_large(total)


def fit(pixels: Pixels, target: Target) -> Pixels:
    """Pixels uint8 (B, *image_shape) of an array (B, C, H, W), resized as pictures are.

    Raises:
        WrongShape: the images have another size than the model's, and `resize` is `none`.
    """
    if pixels.shape[1:] == target.image_shape:
        return pixels
    return decode(
        [Opened(_name(index, len(pixels)), pixels_to_picture(image)) for index, image in enumerate(pixels)], target
    )


def encode(pixels: Pixels, picture_format: PictureFormat, columns: int | None = None) -> bytes:
    """An encoded picture of uint8 pixels (B, C, H, W): the image, or a grid of several images, row by row."""
    image = pixels[0] if len(pixels) == 1 else contact_sheet(pixels, columns)
    if picture_format == "png":
        return png.write(image.transpose(1, 2, 0))
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


def open_picture(name: str, content: bytes, target: Target) -> Opened:
    """Read one picture's header and check its size; it raises the errors of `open_all`."""
    # first, since Pillow would take minutes to open a small file with many of these markers
    for marker in _EXPENSIVE_MARKERS.get(content[:2], ()):
        limit = _MAX_MARKERS + len(content) // marker.chance_bytes
        if next(islice(marker.pattern.finditer(content), limit, None), None):
            raise BadImage(name, f"it has more than {limit:,} {marker.parts}; save it again with another program")
    picture = read_header(name, content, target)
    _drop_metadata(picture)
    opened = Opened(name, picture)
    if opened.pixels > target.max_pixels:
        raise target.image_too_large(name, opened.pixels)
    # sorted, since a picture that stands upright only when it is turned may still fit
    if target.resize == "none" and sorted(picture.size) != sorted(target.image_shape[1:]):
        raise target.wrong_size(name, picture.height, picture.width)
    return opened


def _drop_metadata(picture: Image.Image) -> None:
    """Free a picture's metadata, which can be large; keep the entries that are read later."""
    if picture.info:
        for name in picture.info.keys() - _METADATA_KEPT:
            del picture.info[name]
    if isinstance(picture, PngImagePlugin.PngImageFile):
        picture.private_chunks.clear()
        (picture.png.im_text if picture.png else picture.text).clear()


def read_header(name: str, content: bytes, target: Target) -> Image.Image:
    """The picture in a file, of which Pillow has read the header and no pixel.

    Raises:
        UnsupportedMediaType: the file is in another format than PNG, JPEG or WebP.
        TooLarge: the picture has more pixels than Pillow decodes.
        BadImage: the header cannot be read, the file is cut off, or it is an animation.
    """
    if not content:
        raise BadImage(name, "it is empty; send the bytes of the file")
    file = io.BytesIO(content)
    try:
        picture = Image.open(file, formats=_READ)
        pixels_at = file.tell()
        is_animation = getattr(picture, "is_animated", False) and picture.format != _JPEG_WITH_EXTRAS
    except UnidentifiedImageError as error:
        head = content[4:12] if content[4:8] == b"ftyp" else content  # behind the size of a box
        for first_bytes, other in _OTHER_FORMATS.items():
            if head.startswith(first_bytes):
                raise UnsupportedMediaType(other, MEDIA_TYPES.values(), what="picture format") from error
        raise BadImage(name, "it is not a PNG, JPEG or WebP file") from error
    except _BOMB as error:
        raise target.image_too_large(name) from error
    except Exception as error:  # Pillow raises errors of many types for damaged files
        raise BadImage(name, "its header is damaged") from error
    if content.find(_END_MARKERS.get(picture.format or "", b""), pixels_at) < 0:
        raise BadImage(name, _DAMAGED)
    if is_animation:
        raise BadImage(name, "it is an animation; send each frame as a picture")
    return picture


def decode_picture(opened: Opened, target: Target) -> Pixels:
    """Pixels uint8 (C, H, W) of one opened picture; it raises the errors of `decode`."""
    try:
        opened.picture.load()
    except _BOMB as error:
        raise target.image_too_large(opened.name) from error
    except Exception as error:  # Pillow raises errors of many types for damaged files
        raise BadImage(opened.name, _DAMAGED) from error
    _drop_metadata(opened.picture)  # again: metadata can follow the pixels
    try:
        pixels = picture_to_pixels(opened.picture, target.image_shape, target.resize)
    except UnusablePicture as error:
        raise BadImage(opened.name, str(error)) from error
    if pixels.shape != target.image_shape:
        raise target.wrong_size(opened.name, pixels.shape[1], pixels.shape[2])
    return pixels
