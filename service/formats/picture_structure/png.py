"""The chunks of a PNG."""

from __future__ import annotations

import struct
from collections.abc import Iterator

from ...errors import BadImage
from .exif import check_exif
from .structure import (
    ANIMATION,
    BYTES_OF_PART,
    CUT_OFF,
    DAMAGED_HEADER,
    FILE_COST,
    MAX_PARTS,
    METADATA_COST,
    SAVE_AGAIN,
    Counts,
    PictureStructure,
)

PNG = b"\x89PNG\r\n\x1a\n"  # the first bytes

_MAX_PIXEL_CHUNKS = 256  # some programs write one for each row
_BYTES_OF_PIXEL_CHUNK = 512  # a large file may have more: most programs write 8 KiB or more in each
_MAX_PACKED_TEXTS = 8  # each may unpack to 1 MiB, and Pillow does not count the bytes that are not UTF-8

_LENGTHS = {b"IHDR": range(13, 14), b"PLTE": range(3, 769), b"tRNS": range(1, 257), b"IEND": range(1)}
_ONCE = {kind: f"chunk {kind.decode()}" for kind in (b"IHDR", b"PLTE", b"tRNS", b"iCCP", b"eXIf", b"acTL")}
_PALETTE = 3
_TEXTS = frozenset({b"tEXt", b"zTXt", b"iTXt"})


def read_png(name: str, content: bytes) -> PictureStructure:
    """The structure of a PNG; it raises BadImage as `read_structure` does."""
    counts = Counts(
        name,
        dict.fromkeys(_ONCE.values(), 1)
        | {
            "chunks beside its pixels": MAX_PARTS + len(content) // BYTES_OF_PART,
            "chunks of pixels": _MAX_PIXEL_CHUNKS + len(content) // _BYTES_OF_PIXEL_CHUNK,
            "packed international texts": _MAX_PACKED_TEXTS,
        },
    )
    has_metadata = has_pixels = has_palette = False
    for kind, start, end in png_chunks(name, content):
        if kind == b"IDAT":
            has_pixels = True
            counts.add("chunks of pixels")
            continue
        counts.add("chunks beside its pixels")
        has_palette = has_palette or kind == b"PLTE"
        if kind in _ONCE:
            counts.add(_ONCE[kind])
        if kind in _TEXTS:
            key_end = content.find(b"\0", start, min(end, start + 80))
            if key_end <= start:  # Pillow unpacks a text without a key, but does not count it
                raise BadImage(name, f"one of its texts has no key of 1 to 79 bytes{SAVE_AGAIN}")
            if kind == b"iTXt" and content[key_end + 1] != 0:
                counts.add("packed international texts")
        elif kind == b"acTL" and content[start : start + 4] > b"\0\0\0\x01":
            raise BadImage(name, ANIMATION)
        elif kind == b"eXIf":
            check_exif(name, content[start:end])
        has_metadata = has_metadata or kind in _TEXTS or kind in (b"eXIf", b"iCCP")
    if not has_pixels:
        raise BadImage(name, CUT_OFF)
    width, height, depth, colour = struct.unpack_from(">IIBB", content, len(PNG) + 8)
    if colour == _PALETTE and not has_palette:  # Pillow decodes it, and fails later
        raise BadImage(name, DAMAGED_HEADER)
    cost = FILE_COST + width * height * (2 if depth == 16 else 1) + has_metadata * METADATA_COST
    return PictureStructure("png", width, height, cost, content)


def png_chunks(name: str, content: bytes) -> Iterator[tuple[bytes, int, int]]:
    """The type of each chunk, and where its data begins and ends (PNG specification, third edition, section 5.3)."""
    at, kind = len(PNG), b""
    while kind != b"IEND":
        is_first = not kind
        if at + 12 > len(content):
            raise BadImage(name, CUT_OFF)
        length, kind = struct.unpack_from(">I4s", content, at)
        start, at = at + 8, at + 12 + length
        if at > len(content):
            raise BadImage(name, CUT_OFF)
        if length not in _LENGTHS.get(kind, (length,)) or (is_first and kind != b"IHDR"):
            raise BadImage(name, DAMAGED_HEADER)
        yield kind, start, start + length
