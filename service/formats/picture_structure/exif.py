"""EXIF data: notes of cameras, in any format of pictures."""

from __future__ import annotations

from typing import Literal

from ...errors import BadImage
from .structure import SAVE_AGAIN

EXIF_PREFIX = b"Exif\0\0"  # in front of the data in a JPEG
_MAX_ENTRIES = 256  # of the main directory: cameras write about 20, and Pillow reads each with Python


def check_exif(name: str, exif: bytes) -> None:
    """Raise BadImage if EXIF data (a TIFF file, with or without its prefix) has many entries in its main directory."""
    tiff = exif.removeprefix(EXIF_PREFIX).removeprefix(EXIF_PREFIX)  # Pillow accepts the prefix twice
    order: Literal["little", "big"] = "little" if tiff.startswith(b"II") else "big"
    at = int.from_bytes(tiff[4:8], order)
    if tiff[2:4] in (b"+\0", b"\0+"):
        raise BadImage(name, f"its EXIF data is a BigTIFF, which no camera writes{SAVE_AGAIN}")
    if int.from_bytes(tiff[at : at + 2], order) > _MAX_ENTRIES:
        raise BadImage(name, f"its EXIF data has more than {_MAX_ENTRIES} entries{SAVE_AGAIN}")
