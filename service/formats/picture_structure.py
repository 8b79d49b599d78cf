"""The parts of an encoded picture, counted before a library decodes it.

A few bytes of a file can cost a decoder much time or memory: another scan, another text, another table. So one pass
over the bytes counts the parts of every kind, reads the width and height, and refuses what honest files do not have.
The pass decodes nothing and knows no library of pictures. It takes 3 µs for a digit of MNIST, and at most 9 ms for
each MiB of any file (measured on 2026-11-26 with files of one kind of part each).
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator, Mapping
from itertools import pairwise
from typing import Literal, NamedTuple

from ..errors import BadImage, UnsupportedMediaType

PictureFormat = Literal["png", "jpeg", "webp"]
MEDIA_TYPES: dict[PictureFormat, str] = {"png": "image/png", "jpeg": "image/jpeg", "webp": "image/webp"}
ANIMATION = "it is an animation; send each frame as a picture"

_MAX_PARTS = 100  # beside the pixels: photos have 10 to 60
_BYTES_OF_PART = 4096  # a large file may have more: cameras cut depth maps and profiles into pieces of 64 KiB
_MAX_PIXEL_CHUNKS = 256  # some programs write one for each row
_BYTES_OF_PIXEL_CHUNK = 512  # a large file may have more: most programs write 8 KiB or more in each
_MAX_PACKED_TEXTS = 8  # each may unpack to 1 MiB, and Pillow does not count the bytes that are not UTF-8
_MAX_SCANS = 64  # each is a pass over all pixels: progressive photos have about ten
_MAX_FILL_BYTES = 4096  # between the segments of a JPEG: some cameras align them
_MAX_QUANTISATION_BYTES = 4096  # a picture uses four tables of 129 bytes at most
_MAX_EXIF_ENTRIES = 256  # of the main directory: cameras write about 20, and Pillow reads each with Python

_PNG = b"\x89PNG\r\n\x1a\n"
_JPEG = b"\xff\xd8\xff"
_OTHER_FORMATS = {
    b"GIF8": "GIF", b"BM": "BMP", b"II*\0": "TIFF", b"MM\0*": "TIFF", b"%!PS": "PostScript", b"%PDF": "PDF",
    b"8BPS": "PSD", b"<svg": "SVG", b"<?xml": "SVG", b"\0\0\0\x0cjP": "JPEG-2000",
    b"ftypheic": "HEIC", b"ftypheix": "HEIC", b"ftypmif1": "HEIF", b"ftypavif": "AVIF", b"ftypavis": "AVIF",
}  # fmt: skip

_PNG_LENGTHS = {b"IHDR": range(13, 14), b"PLTE": range(3, 769), b"tRNS": range(1, 257), b"IEND": range(1)}
_PNG_ONCE = {kind: f"chunk {kind.decode()}" for kind in (b"IHDR", b"PLTE", b"tRNS", b"iCCP", b"eXIf", b"acTL")}
_PALETTE = 3
_PNG_TEXTS = frozenset({b"tEXt", b"zTXt", b"iTXt"})

_DHT, _EOI, _SOS, _DQT, _DRI, _APP0, _APP1, _APP14, _COM = 0xC4, 0xD9, 0xDA, 0xDB, 0xDD, 0xE0, 0xE1, 0xEE, 0xFE
_SOF = frozenset({0xC0, 0xC1, 0xC2})  # baseline, extended, progressive; the others are lossless or arithmetic
_SEGMENTS = _SOF | {_DHT, _SOS, _DQT, _DRI, _COM, *range(_APP0, 0xF0)}
_NEEDED = _SOF | {_DHT, _SOS, _DQT, _DRI, _APP0, _APP14}  # for the pixels; 14 says how the colours are stored
_RESTARTS = range(0xD0, 0xD8)
_FILL = re.compile(rb"\xff+")
_END_OF_SCAN = re.compile(rb"\xff[^\x00\xd0-\xd7]")
_EXIF, _XMP = b"Exif\0\0", b"http://ns.adobe.com/xap/1.0/\0"

# Costs in pixels of a plain PNG, each of which takes about 30 ns: measured on 2026-11-26 with the worst files.
_FILE_COST = 1024  # of a picture without pixels: 25 to 45 µs
_METADATA_COST = 131_072
_WEBP_COST = 16
_SCANS_OF_ONE_COST = 8

_SAVE_AGAIN = "; save it again with another program"
_CUT_OFF = "it is damaged or cut off"
_HEADER = "its header is damaged"
_TWO_SIZES = f"it names two sizes{_SAVE_AGAIN}"
_UNUSUAL_JPEG = "it is damaged, or an unusual kind of JPEG; save it again as a baseline or progressive one"


class PictureStructure(NamedTuple):
    """The parts of a picture's file, as far as they tell how much work it is to decode it.

    Attributes:
        picture_format: the format of the file.
        width: in pixels, before the picture is turned upright.
        height: likewise.
        cost: the work of a decoder, as the number of pixels of a plain PNG that take as long. It is an upper bound:
            a lossless WebP may have tables for each 16 pixels, a text of a few bytes may unpack to a megabyte.
        shown: the bytes for the decoder: the file, or a copy of a JPEG without its fill bytes, its further pictures
            and the metadata on which no pixel depends.
    """

    picture_format: PictureFormat
    width: int
    height: int
    cost: int
    shown: bytes


class _Counts:
    """Counts of a picture's parts by kind; a count beyond its limit is an error."""

    def __init__(self, name: str, limits: Mapping[str, int]) -> None:
        self._name, self._limits = name, limits
        self._counts = dict.fromkeys(limits, 0)

    def add(self, kind: str, count: int = 1) -> None:
        self._counts[kind] += count
        if self._counts[kind] > (limit := self._limits[kind]):
            raise BadImage(self._name, f"it has more than {limit:,} {kind}{_SAVE_AGAIN}")


def read_structure(name: str, content: bytes) -> PictureStructure:
    """Walk over the parts of an encoded picture; `name` is the picture's name in errors.

    Raises:
        UnsupportedMediaType: the file has another format than PNG, JPEG or WebP.
        BadImage: the file is empty, cut off, an animation, contradicts itself, or has too many parts of a kind.
    """
    if content.startswith(_PNG):
        structure = _read_png(name, content)
    elif content.startswith(_JPEG):
        structure = _read_jpeg(name, content)
    elif content.startswith(b"RIFF") and content[8:12] == b"WEBP":
        structure = _read_webp(name, content)
    else:
        raise _unknown_format(name, content)
    if not structure.width or not structure.height:
        raise BadImage(name, "it has no pixels")
    return structure


def check_exif(name: str, exif: bytes) -> None:
    """Raise BadImage if EXIF data (a TIFF file, with or without its prefix) has many entries in its main directory."""
    tiff = exif.removeprefix(_EXIF).removeprefix(_EXIF)  # Pillow accepts the prefix twice
    order: Literal["little", "big"] = "little" if tiff.startswith(b"II") else "big"
    at = int.from_bytes(tiff[4:8], order)
    if tiff[2:4] in (b"+\0", b"\0+"):
        raise BadImage(name, f"its EXIF data is a BigTIFF, which no camera writes{_SAVE_AGAIN}")
    if int.from_bytes(tiff[at : at + 2], order) > _MAX_EXIF_ENTRIES:
        raise BadImage(name, f"its EXIF data has more than {_MAX_EXIF_ENTRIES} entries{_SAVE_AGAIN}")


def _unknown_format(name: str, content: bytes) -> BadImage | UnsupportedMediaType:
    if not content:
        return BadImage(name, "it is empty; send the bytes of the file")
    head = content[4:12] if content[4:8] == b"ftyp" else content  # behind the size of a box
    for first_bytes, other in _OTHER_FORMATS.items():
        if head.startswith(first_bytes):
            return UnsupportedMediaType(other, MEDIA_TYPES.values(), what="picture format")
    return BadImage(name, "it is not a PNG, JPEG or WebP file")


def _read_png(name: str, content: bytes) -> PictureStructure:
    counts = _Counts(
        name,
        dict.fromkeys(_PNG_ONCE.values(), 1)
        | {
            "chunks beside its pixels": _MAX_PARTS + len(content) // _BYTES_OF_PART,
            "chunks of pixels": _MAX_PIXEL_CHUNKS + len(content) // _BYTES_OF_PIXEL_CHUNK,
            "packed international texts": _MAX_PACKED_TEXTS,
        },
    )
    has_metadata = has_pixels = has_palette = False
    for kind, start, end in _png_chunks(name, content):
        if kind == b"IDAT":
            has_pixels = True
            counts.add("chunks of pixels")
            continue
        counts.add("chunks beside its pixels")
        has_palette = has_palette or kind == b"PLTE"
        if kind in _PNG_ONCE:
            counts.add(_PNG_ONCE[kind])
        if kind in _PNG_TEXTS:
            key_end = content.find(b"\0", start, min(end, start + 80))
            if key_end <= start:  # Pillow unpacks a text without a key, but does not count it
                raise BadImage(name, f"one of its texts has no key of 1 to 79 bytes{_SAVE_AGAIN}")
            if kind == b"iTXt" and content[key_end + 1] != 0:
                counts.add("packed international texts")
        elif kind == b"acTL" and content[start : start + 4] > b"\0\0\0\x01":
            raise BadImage(name, ANIMATION)
        elif kind == b"eXIf":
            check_exif(name, content[start:end])
        has_metadata = has_metadata or kind in _PNG_TEXTS or kind in (b"eXIf", b"iCCP")
    if not has_pixels:
        raise BadImage(name, _CUT_OFF)
    width, height, depth, colour = struct.unpack_from(">IIBB", content, len(_PNG) + 8)
    if colour == _PALETTE and not has_palette:  # Pillow decodes it, and fails later
        raise BadImage(name, _HEADER)
    cost = _FILE_COST + width * height * (2 if depth == 16 else 1) + has_metadata * _METADATA_COST
    return PictureStructure("png", width, height, cost, content)


def _png_chunks(name: str, content: bytes) -> Iterator[tuple[bytes, int, int]]:
    """The type of each chunk, and where its data begins and ends (PNG specification, third edition, section 5.3)."""
    at, kind = len(_PNG), b""
    while kind != b"IEND":
        is_first = not kind
        if at + 12 > len(content):
            raise BadImage(name, _CUT_OFF)
        length, kind = struct.unpack_from(">I4s", content, at)
        start, at = at + 8, at + 12 + length
        if at > len(content):
            raise BadImage(name, _CUT_OFF)
        if length not in _PNG_LENGTHS.get(kind, (length,)) or (is_first and kind != b"IHDR"):
            raise BadImage(name, _HEADER)
        yield kind, start, start + length


def _read_jpeg(name: str, content: bytes) -> PictureStructure:
    counts = _Counts(
        name,
        {
            "segments": _MAX_PARTS + len(content) // _BYTES_OF_PART,
            "bytes between its segments": _MAX_FILL_BYTES,
            "bytes of quantisation tables": _MAX_QUANTISATION_BYTES,
            "scans": _MAX_SCANS,
        },
    )
    size: tuple[int, int] | None = None
    metadata: set[bytes] = set()
    scans = 0
    shown = [(0, 2)]
    for code, start, end in _jpeg_segments(name, content, counts):
        if code in _SOF:
            if size is not None:
                raise BadImage(name, _TWO_SIZES)
            size = _frame_size(name, content[start + 2 : end])
        elif code == _SOS:
            scans += 1
            counts.add("scans")
            if size is None or content[start + 2 : start + 4] != (6 + 2 * content[start + 4]).to_bytes(2, "big"):
                raise BadImage(name, _HEADER)
        elif code == _DQT:
            counts.add("bytes of quantisation tables", end - start)
        elif code == _APP1:
            prefix = next((prefix for prefix in (_EXIF, _XMP) if content.startswith(prefix, start + 4)), None)
            if prefix is None or prefix in metadata:
                continue
            metadata.add(prefix)
            if prefix == _EXIF:
                check_exif(name, content[start + 4 : end])
        elif code not in _NEEDED and code not in _RESTARTS and code != _EOI:
            continue  # comments, colour profiles, depth maps, notes of programs, the index of further pictures
        shown.append((start, end))
    if size is None or not scans:
        raise BadImage(name, _CUT_OFF)
    cost = _FILE_COST + size[0] * size[1] * (1 + scans // _SCANS_OF_ONE_COST) + bool(metadata) * _METADATA_COST
    return PictureStructure("jpeg", *size, cost, _join(content, shown))


def _jpeg_segments(name: str, content: bytes, counts: _Counts) -> Iterator[tuple[int, int, int]]:
    """The code of each marker of the first picture, and where its segment begins and ends (ITU-T T.81, annex B).

    The segment of a scan includes its data, and the segment of a restart behind fill bytes the data that follows.
    """
    at, code, has_scan = 2, 0, False
    while code != _EOI:
        fill = _FILL.search(content, at)
        if fill is None or fill.end() == len(content):
            raise BadImage(name, _CUT_OFF)
        start, code = fill.end() - 1, content[fill.end()]  # the last fill byte belongs to the marker
        counts.add("segments")
        counts.add("bytes between its segments", start - at)
        at = start + 2
        if code in _SEGMENTS:
            at += int.from_bytes(content[at : at + 2], "big")
            if at < start + 4:
                raise BadImage(name, _HEADER)
        elif code in (0, *_RESTARTS) and not has_scan:
            continue  # other bytes between the segments
        elif code not in _RESTARTS and code != _EOI:
            raise BadImage(name, _UNUSUAL_JPEG)
        has_scan = has_scan or code == _SOS
        if code == _SOS or code in _RESTARTS:
            found = _END_OF_SCAN.search(content, at)
            at = found.start() if found else len(content) + 1
        if at > len(content):
            raise BadImage(name, _CUT_OFF)
        yield code, start, at


def _frame_size(name: str, segment: bytes) -> tuple[int, int]:
    """The width and height in the segment of a frame's header (ITU-T T.81, B.2.2)."""
    if len(segment) < 11 or len(segment) != 8 + 3 * segment[7]:
        raise BadImage(name, _HEADER)
    height, width = struct.unpack_from(">HH", segment, 3)
    return width, height


def _join(content: bytes, pieces: list[tuple[int, int]]) -> bytes:
    """The pieces of the content; the content itself if they follow one another from its first byte."""
    if all(before[1] == behind[0] for before, behind in pairwise(pieces)):
        return content
    view = memoryview(content)
    return b"".join(view[start:end] for start, end in pieces)


def _read_webp(name: str, content: bytes) -> PictureStructure:
    counts = _Counts(name, {"chunks": _MAX_PARTS})
    canvases: list[tuple[int, int]] = []
    pictures: list[tuple[int, int]] = []
    frames, has_metadata = 0, False
    for kind, data in _webp_chunks(name, content):
        counts.add("chunks")
        if kind == b"VP8X" and len(data) >= 10 and not pictures:
            canvases.append((int.from_bytes(data[4:7], "little") + 1, int.from_bytes(data[7:10], "little") + 1))
        elif kind in (b"VP8 ", b"VP8L"):
            pictures.append(_webp_size(name, kind, data))
        frames += kind == b"ANMF"
        has_metadata = has_metadata or kind in (b"EXIF", b"XMP ", b"ICCP")
        if kind == b"EXIF":
            check_exif(name, bytes(data))
    if frames > 1:
        raise BadImage(name, ANIMATION)
    sizes = [*canvases, *pictures]  # a single frame of an animation may be smaller than its canvas
    if len(pictures) + frames != 1 or len(canvases) > 1 or not sizes:
        raise BadImage(name, _HEADER)
    if len(set(sizes)) > 1:
        raise BadImage(name, _TWO_SIZES)
    width, height = sizes[0]
    cost = _FILE_COST + width * height * _WEBP_COST + has_metadata * _METADATA_COST
    return PictureStructure("webp", width, height, cost, content)


def _webp_chunks(name: str, content: bytes) -> Iterator[tuple[bytes, memoryview]]:
    """The type and data of each chunk in the RIFF file (RFC 9649, section 2.3)."""
    end = 8 + int.from_bytes(content[4:8], "little")
    if end > len(content):
        raise BadImage(name, _CUT_OFF)
    at = 12
    while at + 8 <= end:
        kind, length = struct.unpack_from("<4sI", content, at)
        start, at = at + 8, at + 8 + length + length % 2
        if start + length > end:
            raise BadImage(name, _CUT_OFF)
        yield kind, memoryview(content)[start : start + length]


def _webp_size(name: str, kind: bytes, data: memoryview) -> tuple[int, int]:
    """The width and height of a lossy or lossless picture (RFC 6386, section 9.1; RFC 9649, section 3.4)."""
    head = bytes(data[:10])
    if kind == b"VP8 " and len(head) == 10 and head[3:6] == b"\x9d\x01\x2a":
        width, height = struct.unpack_from("<HH", head, 6)
        return width & 0x3FFF, height & 0x3FFF
    if kind == b"VP8L" and len(head) >= 5 and head[0] == 0x2F:
        bits = int.from_bytes(head[1:5], "little")
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    raise BadImage(name, _HEADER)
