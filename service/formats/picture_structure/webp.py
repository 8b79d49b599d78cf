"""The chunks of a WebP."""

from __future__ import annotations

import struct
from collections.abc import Iterator

from ...errors import BadImage
from .exif import check_exif
from .structure import (
    ANIMATION,
    CUT_OFF,
    DAMAGED_HEADER,
    FILE_COST,
    MAX_PARTS,
    METADATA_COST,
    TWO_SIZES,
    Counts,
    PictureStructure,
)

_COST = 16  # of a pixel


def is_webp(content: bytes) -> bool:
    """Whether a file begins as a WebP does."""
    return content.startswith(b"RIFF") and content[8:12] == b"WEBP"


def read_webp(name: str, content: bytes) -> PictureStructure:
    """The structure of a WebP; it raises BadImage as `read_structure` does."""
    counts = Counts(name, {"chunks": MAX_PARTS})
    canvases: list[tuple[int, int]] = []
    pictures: list[tuple[int, int]] = []
    frames, has_metadata = 0, False
    for kind, data in webp_chunks(name, content):
        counts.add("chunks")
        if kind == b"VP8X" and len(data) >= 10 and not pictures:
            canvases.append((int.from_bytes(data[4:7], "little") + 1, int.from_bytes(data[7:10], "little") + 1))
        elif kind in (b"VP8 ", b"VP8L"):
            pictures.append(webp_size(name, kind, data))
        frames += kind == b"ANMF"
        has_metadata = has_metadata or kind in (b"EXIF", b"XMP ", b"ICCP")
        if kind == b"EXIF":
            check_exif(name, bytes(data))
    if frames > 1:
        raise BadImage(name, ANIMATION)
    sizes = [*canvases, *pictures]  # a single frame of an animation may be smaller than its canvas
    if len(pictures) + frames != 1 or len(canvases) > 1 or not sizes:
        raise BadImage(name, DAMAGED_HEADER)
    if len(set(sizes)) > 1:
        raise BadImage(name, TWO_SIZES)
    width, height = sizes[0]
    cost = FILE_COST + width * height * _COST + has_metadata * METADATA_COST
    return PictureStructure("webp", width, height, cost, content)


def webp_chunks(name: str, content: bytes) -> Iterator[tuple[bytes, memoryview]]:
    """The type and data of each chunk in the RIFF file (RFC 9649, section 2.3)."""
    end = 8 + int.from_bytes(content[4:8], "little")
    if end > len(content):
        raise BadImage(name, CUT_OFF)
    at = 12
    while at + 8 <= end:
        kind, length = struct.unpack_from("<4sI", content, at)
        start, at = at + 8, at + 8 + length + length % 2
        if start + length > end:
            raise BadImage(name, CUT_OFF)
        yield kind, memoryview(content)[start : start + length]


def webp_size(name: str, kind: bytes, data: memoryview) -> tuple[int, int]:
    """The width and height of a lossy or lossless picture (RFC 6386, section 9.1; RFC 9649, section 3.4)."""
    head = bytes(data[:10])
    if kind == b"VP8 " and len(head) == 10 and head[3:6] == b"\x9d\x01\x2a":
        width, height = struct.unpack_from("<HH", head, 6)
        return width & 0x3FFF, height & 0x3FFF
    if kind == b"VP8L" and len(head) >= 5 and head[0] == 0x2F:
        bits = int.from_bytes(head[1:5], "little")
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    raise BadImage(name, DAMAGED_HEADER)
