"""The parts of an encoded picture, counted before a library decodes it.

A few bytes of a file can cost a decoder much time or memory: another scan, another text, another table. So one pass
over the bytes counts the parts of every kind, reads the width and height, and refuses what honest files do not have.
The pass decodes nothing and knows no library of pictures. It takes 3 µs for a digit of MNIST, and at most 9 ms for
each MiB of any file (measured on 2026-11-26 with files of one kind of part each).
"""

from .exif import check_exif
from .reader import MEDIA_TYPES, read_structure
from .structure import ANIMATION, CUT_OFF, DAMAGED_HEADER, PictureFormat, PictureStructure

__all__ = [
    "ANIMATION",
    "CUT_OFF",
    "DAMAGED_HEADER",
    "MEDIA_TYPES",
    "PictureFormat",
    "PictureStructure",
    "check_exif",
    "read_structure",
]
