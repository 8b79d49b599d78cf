"""The sizes of pictures are checked before Pillow sees them, and what Pillow finds in addition is checked as well."""

from __future__ import annotations

import io
import subprocess
import sys
import warnings
import zlib

import numpy as np
import pytest
from PIL import Image

from model_store.version import ModelVersion
from service.errors import BadImage, TooLarge
from service.formats import pictures
from service.formats.target import Target

from ..wire import chunk, picture, png_header
from .test_picture_structure import exif, jpeg, png, segment

TARGET = Target(ModelVersion("grey", 1), (1, 28, 28), "stretch", 2**22, 2**24)


@pytest.mark.parametrize("size", [(4_194_304, 1), (1, 4_194_304), (16_385, 200)])
def test_side_is_bounded(monkeypatch: pytest.MonkeyPatch, size: tuple[int, int]) -> None:
    """A few hundred bytes may have four million pixels in a row."""
    monkeypatch.setattr(Image, "open", None)
    message = f"The picture has {max(size):,} pixels a side, the limit is 16,384; crop it, or send it smaller"

    with pytest.raises(TooLarge, match=message):
        pictures.inspect_all([png_header(*size)], TARGET)


def test_side_of_an_array_is_bounded() -> None:
    """Its images are resized by the same code."""
    with pytest.raises(TooLarge, match="An image has 4,194,304 pixels a side"):
        pictures.check_array((1, 1, 1, 4_194_304), TARGET)


def test_image_of_the_models_own_size_may_be_longer() -> None:
    """Such an image is not resized."""
    target = Target(ModelVersion("row", 1), (1, 1, 20_000), "none", 2**22, 2**24)

    (pixels,) = pictures.decode(pictures.inspect_all([picture((20_000, 1))], target), target)

    assert pixels.shape == (1, 1, 1, 20_000)


def test_small_pictures_count_as_large_as_they_become() -> None:
    """A picture of one pixel takes as much memory as the model's images, once it is resized."""
    target = Target(ModelVersion("large", 1), (3, 2048, 2048), "stretch", 2**22, 2**24)

    with pytest.raises(TooLarge, match="each counts as at least 2048×2048, the model's size"):
        pictures.inspect_all([picture((1, 1))] * 5, target)
    with pytest.raises(TooLarge, match="each counts as at least 2048×2048, the model's size"):
        pictures.check_array((5, 1, 1, 1), target)


@pytest.mark.parametrize("before", [True, False])
@pytest.mark.parametrize(
    "text",
    [
        pytest.param(b"exif\0" + exif(300), id="bytes"),
        pytest.param(b"Raw profile type exif\0\nexif\n 1\n" + exif(300).hex().encode(), id="hexadecimal"),
        pytest.param(b"Raw profile type exif\0" + b"\n" * 200_000, id="lines"),
    ],
)
def test_long_exif_in_a_text_is_refused(text: bytes, before: bool) -> None:
    """Pillow reads EXIF data from texts too, each entry with Python."""
    content = png(chunk(b"tEXt", text)) if before else png(behind=chunk(b"tEXt", text))

    with pytest.raises(BadImage, match="EXIF"):
        pictures.decode(pictures.inspect_all([content], TARGET), TARGET)


def test_exif_in_a_text_turns_the_picture() -> None:
    """Old versions of ImageMagick write it so."""
    text = zlib.compress(b"\nexif\n 1\n" + exif(1).hex().encode())
    content = png(chunk(b"zTXt", b"Raw profile type exif\0\0" + text))
    target = Target(ModelVersion("grey", 1), (1, 8, 6), "none", 64, 64)
    upright = np.asarray(Image.open(io.BytesIO(png())).transpose(Image.Transpose.ROTATE_270))

    (pixels,) = pictures.decode(pictures.inspect_all([content], target), target)

    assert np.array_equal(pixels[0, 0], upright)


def test_warnings_of_pillow_are_neither_printed_nor_kept() -> None:
    """A warning with numbers from the file would be another text each time, for which Python keeps a note."""
    broken = b"II*\0\x08\0\0\0\x01\0" + b"\x12\1\3\0\xff\xff\0\0\x08\0\0\0" + bytes(4)
    content = jpeg(segment(0xE1, b"Exif\0\0" + broken))

    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        pictures.ignore_warnings()
        pictures.decode(pictures.inspect_all([content], TARGET), TARGET)

    assert found == []


LITTLE_MEMORY = """
import io, resource, sys
from pathlib import Path
from model_store.version import ModelVersion
from service.formats import pictures
from service.formats.target import Target
target = Target(ModelVersion("m", 1), (3, 8, 8), "stretch", 2**22, 2**24)
content = sys.stdin.buffer.read()
used = next(int(line.split()[1]) for line in Path("/proc/self/status").read_text().splitlines() if "VmData" in line)
resource.setrlimit(resource.RLIMIT_DATA, (used * 1024 + 4_000_000,) * 2)
try:
    pictures.decode(pictures.inspect_all([content], target), target)
except MemoryError:
    print("no memory")
"""


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP"])
def test_good_picture_is_not_called_damaged_when_memory_is_short(kind: str) -> None:
    """The decoder of WebP does not tell why it failed."""
    content = picture((2048, 2048), "RGB", kind=kind)

    output = subprocess.run([sys.executable, "-c", LITTLE_MEMORY], input=content, capture_output=True, check=True)

    assert output.stdout == b"no memory\n"


NEW_MODULES = r"""
import struct, sys
import numpy as np
from model_store.version import ModelVersion
from service.formats import pictures
from service.formats.target import Target
from service.errors import BadImage
target = Target(ModelVersion("m", 1), (3, 8, 8), "stretch", 2**22, 2**24)
before = set(sys.modules)
for kind in ("png", "jpeg", "webp"):
    content = pictures.encode(np.zeros((1, 3, 8, 8), np.uint8), kind)
    pictures.decode(pictures.inspect_all([content], target), target)
exif = b"Exif\0\0II*\0\x08\0\0\0" + struct.pack("<HHHLHxxxxxx", 1, 0x0112, 3, 1, 6)
content = pictures.encode(np.zeros((1, 3, 8, 8), np.uint8), "jpeg")
content = content[:2] + b"\xff\xe1" + struct.pack(">H", 2 + len(exif)) + exif + content[2:]
pictures.decode(pictures.inspect_all([content], target), target)
try:
    pictures.decode(pictures.inspect_all([content[:200] + b"\xff\xd9"], target), target)
except BadImage:
    print(*sorted(set(sys.modules) - before))
"""


def test_pictures_import_no_module_when_they_are_read() -> None:
    """At that time the service may have no descriptor of a file left, and would call good pictures damaged."""
    output = subprocess.run([sys.executable, "-c", NEW_MODULES], capture_output=True, check=True).stdout

    assert output == b"\n"
