"""The structure of a picture's file: its format, its size, and the work of a decoder; the same for all formats."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, NamedTuple

from ...errors import BadImage

PictureFormat = Literal["png", "jpeg", "webp"]

MAX_PARTS = 100  # beside the pixels: photos have 10 to 60
BYTES_OF_PART = 4096  # a large file may have more: cameras cut depth maps and profiles into pieces of 64 KiB

# Costs in pixels of a plain PNG, each of which takes about 30 ns: measured on 2026-11-26 with the worst files.
FILE_COST = 1024  # of a picture without pixels: 25 to 45 µs
METADATA_COST = 131_072

SAVE_AGAIN = "; save it again with another program"
ANIMATION = "it is an animation; send each frame as a picture"
UNCHANGED = "; send the file byte for byte (curl --data-binary, not -d)"
CUT_OFF = f"it is damaged or cut off{UNCHANGED}"
DAMAGED_HEADER = "its header is damaged"
TWO_SIZES = f"it names two sizes{SAVE_AGAIN}"


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


class Counts:
    """Counts of a picture's parts by kind; a count beyond its limit is an error."""

    def __init__(self, name: str, limits: Mapping[str, int]) -> None:
        self._name, self._limits = name, limits
        self._counts = dict.fromkeys(limits, 0)

    def add(self, kind: str, count: int = 1) -> None:
        """Count parts of a kind.

        Raises:
            BadImage: there are more of them than the limit.
        """
        self._counts[kind] += count
        if self._counts[kind] > (limit := self._limits[kind]):
            raise BadImage(self._name, f"it has more than {limit:,} {kind}{SAVE_AGAIN}")
