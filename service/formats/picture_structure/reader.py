"""The structure of a picture's file in any format that the service reads."""

from __future__ import annotations

from ...errors import BadImage, UnsupportedMediaType
from .jpeg import JPEG, read_jpeg
from .png import PNG, read_png
from .structure import UNCHANGED, PictureFormat, PictureStructure
from .webp import is_webp, read_webp

MEDIA_TYPES: dict[PictureFormat, str] = {"png": "image/png", "jpeg": "image/jpeg", "webp": "image/webp"}

_OTHER_FORMATS = {
    b"GIF8": "GIF", b"BM": "BMP", b"II*\0": "TIFF", b"MM\0*": "TIFF", b"%!PS": "PostScript", b"%PDF": "PDF",
    b"8BPS": "PSD", b"<svg": "SVG", b"<?xml": "SVG", b"\0\0\0\x0cjP": "JPEG-2000",
    b"ftypheic": "HEIC", b"ftypheix": "HEIC", b"ftypmif1": "HEIF", b"ftypavif": "AVIF", b"ftypavis": "AVIF",
}  # fmt: skip


def read_structure(name: str, content: bytes) -> PictureStructure:
    """Walk over the parts of an encoded picture; `name` is the picture's name in errors.

    Raises:
        UnsupportedMediaType: the file has another format than PNG, JPEG or WebP.
        BadImage: the file is empty, cut off, an animation, contradicts itself, or has too many parts of a kind.
    """
    if content.startswith(PNG):
        structure = read_png(name, content)
    elif content.startswith(JPEG):
        structure = read_jpeg(name, content)
    elif is_webp(content):
        structure = read_webp(name, content)
    else:
        raise unknown_format(name, content)
    if not structure.width or not structure.height:
        raise BadImage(name, "it has no pixels")
    return structure


def unknown_format(name: str, content: bytes) -> BadImage | UnsupportedMediaType:
    """The error for a file that is not a PNG, JPEG or WebP; it names the format, if that is a known one."""
    if not content:
        return BadImage(name, "it is empty; send the bytes of the file")
    head = content[4:12] if content[4:8] == b"ftyp" else content  # behind the size of a box
    for first_bytes, other in _OTHER_FORMATS.items():
        if head.startswith(first_bytes):
            return UnsupportedMediaType(other, MEDIA_TYPES.values(), what="picture format")
    return BadImage(name, f"it is not a PNG, JPEG or WebP file{UNCHANGED}")
