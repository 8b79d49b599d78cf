"""Encoded pictures to uint8 pixels and back. The only file of the service that knows Pillow.

A picture's size is read from its header and checked before a pixel is decoded. An image in an array is resized by the
same code as a picture, so that it has the same pixels in every format.
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from importlib import import_module
from itertools import groupby
from operator import attrgetter

import numpy as np
from PIL import Image, JpegImagePlugin, PngImagePlugin, WebPImagePlugin
from PIL.ImageFile import ImageFile

from model_store.pictures import (
    LINE,
    Pixels,
    UnusablePicture,
    contact_sheet,
    pixels_to_picture,
    resized_pixels,
    upright_picture,
)
from model_store.vae.family import ImageShape

from ..errors import BadImage, TooLarge, about_row
from . import png
from .picture_structure import (
    ANIMATION,
    CUT_OFF,
    DAMAGED_HEADER,
    PictureFormat,
    PictureStructure,
    check_exif,
    read_structure,
)
from .target import Target

# Named, and not found by `Image.open`: for a file that it does not know, it imports all readers that Pillow has.
_READERS: dict[PictureFormat, type[ImageFile]] = {
    "png": PngImagePlugin.PngImageFile,
    "jpeg": JpegImagePlugin.JpegImageFile,
    "webp": WebPImagePlugin.WebPImageFile,
}
JPEG_QUALITY = 95  # of 100, unless a client asks for another
_LONGEST_SIDE = {"webp": 16_383, "jpeg": 65_500}  # pixels: limits of the formats and of Pillow's encoders
_WEBP_OUT_OF_MEMORY = "encoding error 1"  # Pillow shows the number of libwebp's error
_BOMB = (Image.DecompressionBombError, Image.DecompressionBombWarning)
_BYTES_OF_PIXEL = 16  # WebP: three canvases of four bytes, and the picture
# Of a picture's metadata, what Pillow reads later: to convert the pixels, and to turn the picture upright.
_EXIF_TEXT = "Raw profile type exif"  # old versions of ImageMagick write EXIF data as hexadecimal text
_METADATA_KEPT = {"transparency", "interlace", "exif", _EXIF_TEXT, "xmp", "XML:com.adobe.xmp"}
_MAX_EXIF_TEXT = 135_168  # characters: 64 KiB, which is as much as a JPEG can have, and line ends

# Memory that `encode` takes at its peak, as tests/service/protocols/v1/test_memory.py measures it with random pixels.
_PNG_OR_JPEG_BYTES = 7  # for each value of a contact sheet
_WEBP_BYTES = 64  # for each pixel of a contact sheet: the lossless encoder looks for the best of many transforms
_HEAD_BYTES = 1024  # of a file, for each image

# Bytes of text that Pillow unpacks in the header of a PNG; it has this limit for the whole process only.
PngImagePlugin.MAX_TEXT_MEMORY = 1_048_576

# Pillow imports these at their first use, when the service may have no descriptor of a file left.
Image.preinit()
for _module in ("PIL.ImageOps", "PIL.TiffImagePlugin"):
    import_module(_module)


def ignore_warnings() -> None:
    """Ignore the warnings of Pillow, which have numbers from the file: Python would print each, and keep its text."""
    warnings.filterwarnings("ignore", module=r"PIL\.")


ignore_warnings()


@dataclass(frozen=True)
class Opened:
    """A picture whose header has been read, or that was made from an array; errors show the name."""

    name: str
    picture: Image.Image

    @property
    def pixels(self) -> int:
        """The number of pixels, according to its header."""
        return self.picture.width * self.picture.height


def inspect_all(contents: Sequence[bytes], target: Target) -> list[PictureStructure]:
    """Walk over the parts of pictures and check their sizes, before Pillow sees them.

    Raises:
        UnsupportedMediaType: a picture is in another format than PNG, JPEG or WebP.
        TooLarge: one picture has too many pixels or too long a side, or all of them have too many pixels.
        BadImage: a file is cut off, has too many parts, contradicts itself, or is an animation.
        WrongShape: a picture has another size than the model's, and `resize` is `none`.
    """
    structures, total = [], 0
    for index, content in enumerate(contents):
        name = _name(index, len(contents))
        with about_row(index):
            structure = read_structure(name, content)
            target.check_size(name, structure.height, structure.width)
            # a picture that stands upright only when it is turned may still fit
            upright, turned = (structure.height, structure.width), (structure.width, structure.height)
            if target.resize == "none" and not (target.takes(*upright) or target.takes(*turned)):
                raise target.wrong_size(name, structure.height, structure.width)
        total += target.counted_pixels(structure.height, structure.width)
        if total > target.max_request_pixels:
            raise target.request_too_large()  # its size is not known before all pictures are walked over
        structures.append(structure)
    return structures


def decode(structures: Sequence[PictureStructure], target: Target) -> list[Pixels]:
    """Pixels uint8 (B, C, H, W) of pictures whose parts have been counted, for each run of pictures of the same size.

    To save memory they are opened in turn.

    Raises:
        TooLarge: a picture has more pixels than Pillow decodes.
        BadImage: a picture cannot be read.
        WrongShape: an upright picture has another size than the model's, and `resize` is `none`.
    """
    rows: list[Pixels] = []
    for index, structure in enumerate(structures):
        with about_row(index):
            opened = open_picture(_name(index, len(structures)), structure, target)
            rows.append(decode_picture(opened, target))
    return [np.array([*run]) for _, run in groupby(rows, key=attrgetter("shape"))]


def read_one(content: bytes, target: Target) -> Pixels:
    """Pixels uint8 (1, C, H, W) of one encoded picture.

    Raises:
        the errors of `inspect_all` and `decode`.
    """
    return decode(inspect_all([content], target), target)[0]


def check_array(shape: Sequence[int], target: Target) -> None:
    """Raise TooLarge if one image of an array (B, C, H, W) has too many pixels, or all of them together."""
    count, _, height, width = shape
    target.check_size("An image", height, width)
    if (total := count * target.counted_pixels(height, width)) > target.max_request_pixels:
        raise target.request_too_large(total)


def fit(pixels: Pixels, target: Target) -> Pixels:
    """Pixels uint8 (B, C, H', W') of an array (B, C, H, W), resized as pictures are.

    Raises:
        WrongShape: the images have another size than the model's, and `resize` is `none`.
    """
    shape = target.shape_of(*pixels.shape[2:])
    if pixels.shape[1:] == shape:
        return pixels
    fitted = np.empty((len(pixels), *shape), np.uint8)
    for index, image in enumerate(pixels):
        with about_row(index):
            fitted[index] = decode_picture(Opened(_name(index, len(pixels)), pixels_to_picture(image)), target)
    return fitted


def encode(
    pixels: Pixels,
    picture_format: PictureFormat,
    columns: int | None = None,
    jpeg_quality: int = JPEG_QUALITY,
) -> bytes:
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
    try:
        options = {"quality": jpeg_quality} if picture_format == "jpeg" else {"lossless": True}
        picture.save(buffer, picture_format, **options)
    except ValueError as error:
        if str(error) == _WEBP_OUT_OF_MEMORY:
            raise MemoryError from error
        raise
    return buffer.getvalue()


def bytes_to_encode(picture_format: PictureFormat, image_shape: ImageShape, count: int) -> int:
    """Memory that `encode` takes for each of `count` images (C, H, W), in bytes: an upper bound."""
    channels, height, width = image_shape
    tile = (height + LINE) * (width + LINE) * 4 // 3 if count > 1 else height * width  # a third may be empty
    return _HEAD_BYTES + tile * (_WEBP_BYTES if picture_format == "webp" else _PNG_OR_JPEG_BYTES * channels)


def _name(index: int, count: int) -> str:
    return "The picture" if count == 1 else f"Picture {index + 1}"


def open_picture(name: str, structure: PictureStructure, target: Target) -> Opened:
    """Let Pillow read the header of one picture; it raises the errors of `decode`."""
    try:
        picture = _READERS[structure.picture_format](io.BytesIO(structure.shown))
    except _BOMB as error:
        raise target.image_too_large(name) from error
    except MemoryError:
        raise
    except Exception as error:  # Pillow raises errors of many types for damaged files
        _check_memory(structure.width * structure.height)
        raise BadImage(name, DAMAGED_HEADER) from error
    if getattr(picture, "is_animated", False):
        raise BadImage(name, ANIMATION)
    if picture.size != (structure.width, structure.height):
        raise BadImage(name, CUT_OFF)
    _drop_metadata(name, picture)
    return Opened(name, picture)


def _check_memory(pixels: int) -> None:
    """Raise MemoryError if a picture does not fit into the memory: a decoder would call the good file damaged."""
    bytearray(_BYTES_OF_PIXEL * pixels)


def _drop_metadata(name: str, picture: Image.Image) -> None:
    """Free a picture's metadata, which can be large; keep the entries that are read later.

    Raises:
        BadImage: the EXIF data is too long. In a PNG it can be a text, which only Pillow unpacks.
    """
    if picture.info:
        for key in picture.info.keys() - _METADATA_KEPT:
            del picture.info[key]
        if isinstance(exif := picture.info.get("exif"), bytes):
            check_exif(name, exif)
        if isinstance(text := picture.info.get(_EXIF_TEXT), str):
            if len(text) > _MAX_EXIF_TEXT:
                raise BadImage(name, "it has a text of EXIF data that is too long; save it again without metadata")
            with suppress(ValueError):
                check_exif(name, bytes.fromhex("".join(text.split("\n")[3:])))  # as Pillow reads it
    if isinstance(picture, PngImagePlugin.PngImageFile):
        picture.private_chunks.clear()
        (picture.png.im_text if picture.png else picture.text).clear()


def decode_picture(opened: Opened, target: Target) -> Pixels:
    """Pixels uint8 (C, H, W) of one opened picture; it raises the errors of `decode`."""
    try:
        opened.picture.load()
        _drop_metadata(opened.name, opened.picture)  # again: metadata can follow the pixels
        upright = upright_picture(opened.picture, target.image_shape[0], target.background)
        _, height, width = target.shape_of(upright.height, upright.width)
        pixels = resized_pixels(upright, (width, height), target.resize, target.background)
    except _BOMB as error:
        raise target.image_too_large(opened.name) from error
    except UnusablePicture as error:
        raise BadImage(opened.name, str(error)) from error
    except (BadImage, MemoryError):
        raise
    except Exception as error:  # Pillow raises errors of many types for damaged files
        _check_memory(opened.pixels)
        raise BadImage(opened.name, CUT_OFF) from error
    if not target.takes(*pixels.shape[1:]):
        raise target.wrong_size(opened.name, pixels.shape[1], pixels.shape[2])
    return pixels
