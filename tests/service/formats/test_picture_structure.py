"""The walk over the parts of a picture: honest files pass it with their size, costly ones do not."""

from __future__ import annotations

import io
import struct
import subprocess
import sys
import zlib
from collections.abc import Callable
from typing import Any

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given, settings
from PIL import Image, PngImagePlugin

from service.errors import BadImage, UnsupportedMediaType
from service.formats.picture_structure import PictureStructure, read_structure

from ..wire import chunk, saved

KEYS = [chunk(b"iTXt", b"%d\0\0\0\0\0" % number) for number in range(1900)]
SMALL = Image.linear_gradient("L").resize((8, 6))
MODES = {
    "PNG": ("1", "L", "LA", "P", "RGB", "RGBA", "I;16"),
    "JPEG": ("L", "RGB", "CMYK"),
    "WEBP": ("L", "RGB", "RGBA"),
}


def read(content: bytes) -> PictureStructure:
    """The structure of a picture with the usual name."""
    return read_structure("The picture", content)


def pixels(content: bytes) -> np.ndarray:
    """The pixels that Pillow decodes from a file."""
    return np.asarray(Image.open(io.BytesIO(content)))


def png(*before: bytes, behind: bytes = b"") -> bytes:
    """A good PNG with further bytes before and behind its pixels."""
    good = saved(SMALL, "PNG")
    at, end = good.index(b"IDAT") - 4, good.index(b"IEND") - 4
    return good[:at] + b"".join(before) + good[at:end] + behind + good[end:]


def png_of(width: int, height: int, *, depth: int, colour: int, row_bytes: int) -> bytes:
    """A PNG of zeroes."""
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    data = zlib.compress(bytes((1 + row_bytes) * height), 1)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b"")


def jpeg(*before: bytes, **options: Any) -> bytes:
    """A good JPEG with further bytes behind its first marker."""
    good = saved(SMALL, "JPEG", **options)
    return good[:2] + b"".join(before) + good[2:]


def scan_of(data: bytes) -> bytes:
    """A JPEG whose only scan has this data."""
    good = saved(SMALL, "JPEG")
    at = good.rindex(b"\xff\xda")
    return good[: at + 2 + int.from_bytes(good[at + 2 : at + 4], "big")] + data + b"\xff\xd9"


def segment(code: int, data: bytes) -> bytes:
    """A segment of a JPEG."""
    return bytes([0xFF, code]) + struct.pack(">H", 2 + len(data)) + data


def webp(*chunks: tuple[bytes, bytes], canvas: tuple[int, int] = (8, 6), flags: int = 0) -> bytes:
    """A WebP of chunks behind a header with the size of its canvas."""
    sides = b"".join(struct.pack("<I", side - 1)[:3] for side in canvas)
    everything = ((b"VP8X", bytes([flags, 0, 0, 0]) + sides), *chunks)
    body = b"".join(kind + struct.pack("<I", len(data)) + data + bytes(len(data) % 2) for kind, data in everything)
    return b"RIFF" + struct.pack("<I", 4 + len(body)) + b"WEBP" + body


def webp_pixels(size: tuple[int, int] = (8, 6)) -> tuple[bytes, bytes]:
    """The chunk of a lossless picture."""
    content = saved(Image.new("RGB", size), "WEBP", lossless=True)
    return content[12:16], content[20:]


def exif(entries: int) -> bytes:
    """EXIF data with this many entries in its main directory, among them the orientation 6."""
    numbers = [0x0112, *(number for number in range(1, entries + 1) if number != 0x0112)][:entries]
    values = b"".join(struct.pack("<HHLHxx", number, 3, 1, 6) for number in sorted(numbers))
    return b"II*\0\x08\0\0\0" + struct.pack("<H", entries) + values + bytes(4)


@given(
    size=st.tuples(st.integers(1, 70), st.integers(1, 70)),
    kind=st.sampled_from(sorted(MODES)),
    at=st.integers(0, 6),
    options=st.fixed_dictionaries(
        {},
        optional={
            "progressive": st.booleans(),
            "optimize": st.booleans(),
            "restart_marker_blocks": st.integers(1, 3),
            "restart_marker_rows": st.integers(1, 3),
            "quality": st.integers(1, 100),
            "subsampling": st.integers(0, 2),
            "comment": st.binary(max_size=70),
            "lossless": st.booleans(),
            "icc_profile": st.binary(min_size=1, max_size=200_000),
            "xmp": st.binary(min_size=1, max_size=2000),
            "exif": st.just(exif(20)),
            "dpi": st.just((72, 72)),
            "compress_level": st.integers(0, 9),
        },
    ),
    texts=st.dictionaries(
        st.text(st.characters(codec="latin-1", exclude_categories=["C"]), min_size=1, max_size=20),
        st.text(max_size=50),
        max_size=5,
    ),
    seed=st.integers(0, 2**32 - 1),
)
@settings(max_examples=150, deadline=None)
def test_every_picture_of_pillow_is_read_as_pillow_reads_it(
    size: tuple[int, int], kind: str, at: int, options: dict[str, Any], texts: dict[str, str], seed: int
) -> None:
    """The size is the picture's, and the bytes that are shown to a decoder have the same pixels as the file."""
    mode = MODES[kind][at % len(MODES[kind])]
    noise = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    info = PngImagePlugin.PngInfo()
    for key, text in texts.items():
        info.add_itxt(key, text, zip=len(text) % 2 == 0)
    content = saved(
        Image.fromarray(noise).convert("L" if mode == "I;16" else "RGB").convert(mode), kind, pnginfo=info, **options
    )

    structure = read(content)

    assert (structure.picture_format, structure.width, structure.height) == (kind.lower(), *size)
    assert np.array_equal(pixels(structure.shown), pixels(content))


HONEST: dict[str, bytes] = {
    "a PNG with a chunk of pixels for each row of 300": png(*[chunk(b"IDAT", b"")] * 255),
    "a PNG of 3 MB in chunks of 1 kB": png(*[chunk(b"prVt", bytes(1_000_000))] * 3, *[chunk(b"IDAT", b"")] * 3000),
    "a PNG with ninety texts": png(*[chunk(b"tEXt", b"key %d\0text" % number) for number in range(90)]),
    "a JPEG with a profile in thirty segments": jpeg(*[segment(0xE2, b"ICC_PROFILE\0" + bytes(60_000))] * 30),
    "a JPEG with a depth map in 300 segments": jpeg(*[segment(0xE1, b"http://ns.adobe.com" + bytes(65_000))] * 300),
    "a JPEG with fill bytes before restarts": saved(
        SMALL.resize((64, 64)), "JPEG", restart_marker_blocks=1).replace(b"\xff\xd0", b"\xff\xff\xff\xd0"),
    "a JPEG with aligned segments": jpeg(b"\xff" * 2000),
    "a JPEG with a restart behind each block": saved(SMALL.resize((640, 480)), "JPEG", restart_marker_blocks=1),
    "a JPEG with bytes behind it": jpeg() + bytes(100_000),
    "a PNG with bytes behind it": png() + bytes(100_000),
    "a WebP with unknown chunks": webp(*[(b"abcd", b"e")] * 90, webp_pixels()),
    "a WebP of one frame": webp((b"ANIM", bytes(6)), (b"ANMF", bytes(16) + b"".join(
        (webp_pixels()[0], struct.pack("<I", len(webp_pixels()[1])), webp_pixels()[1]))), flags=2),
}  # fmt: skip


@pytest.mark.parametrize("name", HONEST)
def test_honest_files_with_many_parts_are_read(name: str) -> None:
    """Programs and cameras write such files."""
    structure = read(HONEST[name])

    assert np.array_equal(pixels(structure.shown), pixels(HONEST[name]))


MANY: dict[str, tuple[bytes, str]] = {
    "empty chunks of pixels": (png(*[chunk(b"IDAT", b"")] * 300), "more than 263 chunks of pixels"),
    "empty chunks of pixels behind": (png(behind=chunk(b"IDAT", b"") * 300), "more than 263 chunks of pixels"),
    "texts with keys": (png(*KEYS[:120]), "more than 100 chunks beside"),
    "texts behind the pixels": (png(behind=chunk(b"tEXt", b"a\0") * 120), "more than 100 chunks beside"),
    "private chunks": (png(*[chunk(b"prVt", b"")] * 120), "more than 100 chunks beside"),
    "unknown chunks": (png(*[chunk(b"ABCD", b"")] * 120), "more than 100 chunks beside"),
    "packed texts": (png(*[chunk(b"iTXt", b"a\0\1\0\0\0" + zlib.compress(b"\xff"))] * 9), "than 8 packed"),
    "a text without a key": (png(chunk(b"zTXt", b"\0\0" + zlib.compress(b"a"))), "no key"),
    "colour profiles": (png(*[chunk(b"iCCP", b"a\0\0" + zlib.compress(b"b"))] * 2), "more than 1 chunk iCCP"),
    "a palette that is missing": (png_of(8, 6, depth=8, colour=3, row_bytes=8), "its header is damaged"),
    "a palette of a megabyte": (png(chunk(b"PLTE", bytes(1_000_000))), "its header is damaged"),
    "two headers": (png(saved(SMALL, "PNG")[8:33]), "more than 1 chunk IHDR"),
    "a long EXIF in a PNG": (png(chunk(b"eXIf", exif(300))), "more than 256 entries"),
    "a BigTIFF as EXIF": (png(chunk(b"eXIf", b"II+\0" + bytes(20))), "BigTIFF"),
    "fill bytes": (jpeg(b"\xff" * 100_000), "more than 4,096 bytes between"),
    "zeroes between segments": (jpeg(b"\xff\xfe\0\2" + bytes(100_000)), "more than 4,096 bytes between"),
    "fill bytes in a scan": (scan_of(b"\xff" * 100_000 + b"\xd0"), "more than 4,096 bytes between"),
    "short runs of fill bytes in a scan": (scan_of(b"\xff\xff\xd0" * 200), "more than 100 segments"),
    "fill bytes in data": (scan_of(b"\xff\xff\0"), "damaged, or an unusual kind of JPEG"),
    "restarts before the first scan": (jpeg(b"\xff\xd0" * 200), "more than 100 segments"),
    "tables": (jpeg(*[segment(0xC4, bytes([0x10]) + bytes(16))] * 120), "more than 100 segments"),
    "restart intervals": (jpeg(*[segment(0xDD, bytes(2))] * 120), "more than 100 segments"),
    "comments": (jpeg(*[segment(0xFE, b"")] * 120), "more than 100 segments"),
    "quantisation tables in one segment": (jpeg(segment(0xDB, bytes(6500))), "more than 4,096 bytes of quantisation"),
    "scans": (jpeg(progressive=True)[:-2] + segment(0xDA, b"\1\1\0\1\x3f\0") * 70 + b"\xff\xd9", "more than 64 scans"),
    "two frames": (jpeg(segment(0xC0, b"\x08\0\1\0\1\1\1\x11\0")), "two sizes"),
    "a frame of many components": (jpeg(segment(0xC0, b"\x08\0\1\0\1\1" + bytes(60_000))), "its header is damaged"),
    "an arithmetic frame": (jpeg(segment(0xC9, b"\x08\0\1\0\1\1\1\x11\0")), "unusual kind of JPEG"),
    "two pictures": (jpeg(b"\xff\xd8"), "unusual kind of JPEG"),
    "a long EXIF in a JPEG": (jpeg(segment(0xE1, b"Exif\0\0" + exif(300))), "more than 256 entries"),
    "chunks of WebP": (webp(*[(b"abcd", b"")] * 120, webp_pixels()), "more than 100 chunks"),
    "a canvas larger than its picture": (webp(webp_pixels(), canvas=(2000, 2000)), "two sizes"),
    "two pictures in a WebP": (webp(webp_pixels(), webp_pixels()), "its header is damaged"),
    "two canvases": (webp((b"VP8X", bytes(10)), webp_pixels()), "its header is damaged"),
    "a long EXIF in a WebP": (webp(webp_pixels(), (b"EXIF", exif(300))), "more than 256 entries"),
}  # fmt: skip


@pytest.mark.parametrize("name", MANY)
def test_parts_that_cost_more_than_their_bytes_are_bounded(name: str) -> None:
    """The message names the parts and their limit."""
    content, message = MANY[name]

    with pytest.raises(BadImage, match=message):
        read(content)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP"])
def test_file_that_is_cut_off_anywhere_is_refused(kind: str) -> None:
    """No file without its last byte is read, nor any shorter one."""
    content = saved(SMALL, kind)

    for length in range(len(content)):
        with pytest.raises(BadImage):
            read(content[:length])


def test_first_still_of_several_is_read_though_the_second_is_cut_off() -> None:
    """A phone's JPEG goes on behind its picture with the pictures from which it was computed; none of them is read."""
    content = saved(SMALL, "MPO", save_all=True, append_images=[Image.new("L", (8, 6))])

    shown = {read(content[:-cut]).shown for cut in (1, 50, 200)}

    assert len(shown) == 1
    assert np.array_equal(pixels(shown.pop()), pixels(saved(SMALL, "JPEG")))


def test_first_still_that_is_cut_off_is_refused() -> None:
    """The end of a small picture within the metadata is not the end of the picture."""
    thumbnail = segment(0xE1, b"Exif\0\0" + exif(1) + saved(SMALL, "JPEG"))

    with pytest.raises(BadImage, match="cut off"):
        read(jpeg(thumbnail)[:-2])


def test_decoder_sees_no_metadata_of_a_jpeg_but_its_orientation() -> None:
    """Pillow would read each resource of Photoshop with Python, and join the profile's pieces."""
    costly = [segment(0xED, b"Photoshop 3.0\0" + b"8BIM\4\4\0\0\0\0\0\0" * 5000), segment(0xE2, b"MPF\0" + bytes(9))]
    plain = jpeg(segment(0xE1, b"Exif\0\0" + exif(1)))

    assert read(jpeg(segment(0xE1, b"Exif\0\0" + exif(1)), *costly, segment(0xFE, b"hello"))).shown == plain
    assert read(plain).shown is plain


@pytest.mark.parametrize(
    ("content", "error"),
    [
        pytest.param(b"", BadImage, id="empty"),
        pytest.param(b"text", BadImage, id="text"),
        pytest.param(b"%!PS-Adobe", UnsupportedMediaType, id="EPS"),
        pytest.param(b"\x89PNG\r\n\x1a\n", BadImage, id="a signature"),
        pytest.param(b"\xff\xd8\xff\xd9", BadImage, id="a JPEG without pixels"),
        pytest.param(b"RIFF\4\0\0\0WEBP", BadImage, id="a WebP without pixels"),
    ],
)
def test_file_without_a_picture_is_refused(content: bytes, error: type[Exception]) -> None:
    """The message says whether it is another format or none."""
    with pytest.raises(error):
        read(content)


@pytest.mark.parametrize(
    ("content", "is_light"),
    [
        pytest.param(saved(Image.new("L", (250, 250)), "PNG"), True, id="PNG"),
        pytest.param(saved(Image.new("L", (250, 250)), "JPEG"), True, id="JPEG"),
        pytest.param(saved(Image.new("L", (60, 60)), "WEBP"), True, id="small WebP"),
        pytest.param(saved(Image.new("L", (256, 256)), "WEBP"), False, id="WebP"),
        pytest.param(saved(Image.fromarray(np.zeros((256, 256), np.uint16)), "PNG"), False, id="sixteen bits"),
        pytest.param(png(chunk(b"tEXt", b"a\0b")), False, id="text"),
        pytest.param(png(chunk(b"iCCP", b"a\0\0")), False, id="profile"),
        pytest.param(jpeg(segment(0xE1, b"Exif\0\0" + exif(1))), False, id="EXIF"),
    ],
)
def test_cost_is_known_before_a_decoder_is_called(content: bytes, is_light: bool) -> None:
    """The cost is the cost of the worst file with such parts."""
    assert (read(content).cost <= 65_536) == is_light


def test_many_small_pictures_are_not_light() -> None:
    """Each takes 30 µs beside the time for its pixels."""
    assert 16 < 65_536 // read(saved(Image.new("L", (1, 1)), "PNG")).cost < 100


_PEAK = """
import io, resource, sys
from PIL import Image
from model_store.version import ModelVersion
from service.formats import pictures
from service.formats.target import Target
target = Target(ModelVersion("m", 1), (3, 28, 28), "stretch", 2**22, 2**24)
def peak(content):
    try:
        pictures.decode(pictures.inspect_all([content], target), target)
    except pictures.BadImage:
        pass
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
for kind in ("PNG", "JPEG", "WEBP"):
    small = io.BytesIO()
    Image.new("RGB", (8, 8)).save(small, kind)
    peak(small.getvalue())
content = sys.stdin.buffer.read()
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
print(peak(content) - before)
"""


HUNGRY: dict[str, Callable[[], bytes]] = {
    "a text": lambda: png(chunk(b"tEXt", b"a\0" + bytes(8_000_000))),
    "a private chunk": lambda: png(chunk(b"prVt", bytes(8_000_000))),
    "texts with keys": lambda: png(
        *KEYS, chunk(b"prVt", bytes(8_000_000))),
    "segments": lambda: jpeg(*[segment(0xE0, b"JFIF\0" + bytes(60_000))] * 130),
    "a scan": lambda: scan_of(bytes(8_000_000)),
    "EXIF": lambda: webp(webp_pixels(), (b"EXIF", exif(200) + bytes(8_000_000)), flags=8),
    "pixels of a PNG": lambda: png_of(2048, 2048, depth=16, colour=6, row_bytes=8 * 2048),
    "pixels of a JPEG": lambda: saved(Image.new("CMYK", (2048, 2048)), "JPEG", progressive=True),
    "pixels of a WebP": lambda: saved(Image.new("RGBA", (2048, 2048)), "WEBP", lossless=True),
}  # fmt: skip


@pytest.mark.parametrize("name", HUNGRY)
def test_memory_is_bounded_by_bytes_and_pixels(name: str) -> None:
    """Reading a picture takes at most 4 bytes for each byte of its file, 20 for each pixel, and 8 MB."""
    content = HUNGRY[name]()
    structure = read(content)

    output = subprocess.run([sys.executable, "-c", _PEAK], input=content, capture_output=True, check=True).stdout

    assert int(output) < 4 * len(content) + 20 * structure.width * structure.height + 8_000_000
