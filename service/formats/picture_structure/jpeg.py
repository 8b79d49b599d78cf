"""The segments of a JPEG."""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from itertools import pairwise

from ...errors import BadImage
from .exif import EXIF_PREFIX, check_exif
from .structure import (
    BYTES_OF_PART,
    CUT_OFF,
    DAMAGED_HEADER,
    FILE_COST,
    MAX_PARTS,
    METADATA_COST,
    TWO_SIZES,
    UNCHANGED,
    Counts,
    PictureStructure,
)

JPEG = b"\xff\xd8\xff"  # the first bytes

_MAX_SCANS = 64  # each is a pass over all pixels: progressive photos have about ten
_SCANS_OF_ONE_COST = 8
_MAX_FILL_BYTES = 4096  # between the segments: some cameras align them
_MAX_QUANTISATION_BYTES = 4096  # a picture uses four tables of 129 bytes at most

_DHT, _EOI, _SOS, _DQT, _DRI, _APP0, _APP1, _APP14, _COM = 0xC4, 0xD9, 0xDA, 0xDB, 0xDD, 0xE0, 0xE1, 0xEE, 0xFE
_SOF = frozenset({0xC0, 0xC1, 0xC2})  # baseline, extended, progressive; the others are lossless or arithmetic
_SEGMENTS = _SOF | {_DHT, _SOS, _DQT, _DRI, _COM, *range(_APP0, 0xF0)}
_NEEDED = _SOF | {_DHT, _SOS, _DQT, _DRI, _APP0, _APP14}  # for the pixels; 14 says how the colours are stored
_RESTARTS = range(0xD0, 0xD8)
_FILL = re.compile(rb"\xff+")
_END_OF_SCAN = re.compile(rb"\xff[^\x00\xd0-\xd7]")
_XMP = b"http://ns.adobe.com/xap/1.0/\0"
_UNUSUAL_JPEG = (
    f"it is damaged, or an unusual kind of JPEG{UNCHANGED}, or save it again as a baseline or progressive one"
)


def read_jpeg(name: str, content: bytes) -> PictureStructure:
    """The structure of a JPEG; it raises BadImage as `read_structure` does."""
    counts = Counts(
        name,
        {
            "segments": MAX_PARTS + len(content) // BYTES_OF_PART,
            "bytes between its segments": _MAX_FILL_BYTES,
            "bytes of quantisation tables": _MAX_QUANTISATION_BYTES,
            "scans": _MAX_SCANS,
        },
    )
    size: tuple[int, int] | None = None
    metadata: set[bytes] = set()
    scans = 0
    shown = [(0, 2)]
    for code, start, end in jpeg_segments(name, content, counts):
        if code in _SOF:
            if size is not None:
                raise BadImage(name, TWO_SIZES)
            size = frame_size(name, content[start + 2 : end])
        elif code == _SOS:
            scans += 1
            counts.add("scans")
            if size is None or content[start + 2 : start + 4] != (6 + 2 * content[start + 4]).to_bytes(2, "big"):
                raise BadImage(name, DAMAGED_HEADER)
        elif code == _DQT:
            counts.add("bytes of quantisation tables", end - start)
        elif code == _APP1:
            prefix = next((prefix for prefix in (EXIF_PREFIX, _XMP) if content.startswith(prefix, start + 4)), None)
            if prefix is None or prefix in metadata:
                continue
            metadata.add(prefix)
            if prefix == EXIF_PREFIX:
                check_exif(name, content[start + 4 : end])
        elif code not in _NEEDED and code not in _RESTARTS and code != _EOI:
            continue  # comments, colour profiles, depth maps, notes of programs, the index of further pictures
        shown.append((start, end))
    if size is None or not scans:
        raise BadImage(name, CUT_OFF)
    cost = FILE_COST + size[0] * size[1] * (1 + scans // _SCANS_OF_ONE_COST) + bool(metadata) * METADATA_COST
    return PictureStructure("jpeg", *size, cost, join_pieces(content, shown))


def jpeg_segments(name: str, content: bytes, counts: Counts) -> Iterator[tuple[int, int, int]]:
    """The code of each marker of the first picture, and where its segment begins and ends (ITU-T T.81, annex B).

    The segment of a scan includes its data, and the segment of a restart behind fill bytes the data that follows.
    """
    at, code, has_scan = 2, 0, False
    while code != _EOI:
        fill = _FILL.search(content, at)
        if fill is None or fill.end() == len(content):
            raise BadImage(name, CUT_OFF)
        start, code = fill.end() - 1, content[fill.end()]  # the last fill byte belongs to the marker
        counts.add("segments")
        counts.add("bytes between its segments", start - at)
        at = start + 2
        if code in _SEGMENTS:
            at += int.from_bytes(content[at : at + 2], "big")
            if at < start + 4:
                raise BadImage(name, DAMAGED_HEADER)
        elif code in (0, *_RESTARTS) and not has_scan:
            continue  # other bytes between the segments
        elif code not in _RESTARTS and code != _EOI:
            raise BadImage(name, _UNUSUAL_JPEG)
        has_scan = has_scan or code == _SOS
        if code == _SOS or code in _RESTARTS:
            found = _END_OF_SCAN.search(content, at)
            at = found.start() if found else len(content) + 1
        if at > len(content):
            raise BadImage(name, CUT_OFF)
        yield code, start, at


def frame_size(name: str, segment: bytes) -> tuple[int, int]:
    """The width and height in the segment of a frame's header (ITU-T T.81, B.2.2)."""
    if len(segment) < 11 or len(segment) != 8 + 3 * segment[7]:
        raise BadImage(name, DAMAGED_HEADER)
    height, width = struct.unpack_from(">HH", segment, 3)
    return width, height


def join_pieces(content: bytes, pieces: list[tuple[int, int]]) -> bytes:
    """The pieces of the content; the content itself if they follow one another from its first byte."""
    if all(before[1] == behind[0] for before, behind in pairwise(pieces)):
        return content
    view = memoryview(content)
    return b"".join(view[start:end] for start, end in pieces)
