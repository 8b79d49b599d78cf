"""Files that are not pictures, that unpack to more than they seem, or are odd: each way in gives one answer."""

import io
import struct
import zlib
from collections.abc import Callable
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image, ImageFile, PngImagePlugin

from model_store import ModelVersion
from service.errors import BadImage
from service.formats import pictures
from service.formats.target import Target
from service.operations import sent_images

from ...wire import PNG, animated, base64_of, chunk, multipart, picture, png_header, saved

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("unharmed")]

WAYS: dict[str, Callable[[bytes], dict[str, Any]]] = {
    "raw": lambda content: {"content": content, "headers": PNG},
    "multipart": multipart,
    "base64": lambda content: {"json": {"images": [base64_of(content)]}},
}


@pytest.fixture(params=WAYS)
def way(request: pytest.FixtureRequest) -> str:
    """The way in which a picture is sent."""
    return str(request.param)


def bomb(side: int) -> bytes:
    """A valid PNG of zeroes, with this many pixels a side; the file has a thousandth as many bytes as pixels."""
    rows = zlib.compressobj()
    data = b"".join(rows.compress(bytes(side + 1)) for _ in range(side)) + rows.flush()
    header = struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b"")


def with_chunks(*chunks: tuple[bytes, bytes], before: bytes = b"IDAT", colour: int = 255) -> bytes:
    """A valid PNG with more chunks, before the named chunk."""
    good = picture(colour=colour)
    at = good.index(before) - 4
    return good[:at] + b"".join(chunk(kind, data) for kind, data in chunks) + good[at:]


def flipped(content: bytes, at: int) -> bytes:
    """The bytes with all bits of one byte inverted."""
    return content[:at] + bytes([content[at] ^ 0xFF]) + content[at + 1 :]


def with_texts(count: int, size: int) -> bytes:
    """A valid PNG with this many texts of zeroes, each with its own name."""
    text = zlib.compress(bytes(size), 9)
    return with_chunks(*[(b"zTXt", b"%d\0\0" % number + text) for number in range(count)])


def with_scans(count: int) -> bytes:
    """A valid progressive JPEG whose last scan is repeated this many times."""
    good = saved(Image.new("L", (8, 8)), "JPEG", progressive=True)
    at = good.rindex(b"\xff\xda")
    return good[:at] + good[at:-2] * count + good[-2:]


def with_segments(count: int, segment: bytes) -> bytes:
    """A valid JPEG with a segment repeated this many times, and other bytes after the picture."""
    good = saved(WHITE, "JPEG", quality=100)
    return good[:2] + segment * count + good[2:] + bytes(65_536)


def interlaced() -> bytes:
    """A white PNG of 8×8 in the seven passes of Adam7; each pass has its width and height here."""
    passes = ((1, 1), (1, 1), (2, 1), (2, 2), (4, 2), (4, 4), (8, 4))
    rows = b"".join((b"\0" + b"\xff" * width) * height for width, height in passes)
    header = struct.pack(">IIBBBBB", 8, 8, 8, 0, 0, 0, 1)
    pieces = ((b"IHDR", header), (b"IDAT", zlib.compress(rows)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*piece) for piece in pieces)


WHITE = Image.new("RGB", (8, 8), "white")
EXIF = b"\xff\xe1\x00\x08Exif\0\0"
LONG_TEXT = zlib.compress(bytes(40_000_000), 9)

REFUSED = {
    "nothing": (b"", 422),
    "text": (b"a picture of a cat", 422),
    "a page before a picture": (b"<!doctype html><script>alert(1)</script>" + picture(), 422),
    "SVG": (b"<svg xmlns='http://www.w3.org/2000/svg'/>", 415),
    "EPS, which would start Ghostscript": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n", 415),
    "PDF": (b"%PDF-1.7\n", 415),
    "PSD": (b"8BPS\x00\x01", 415),
    "TIFF": (saved(Image.new("L", (8, 8)), "TIFF"), 415),
    "BMP": (saved(Image.new("L", (8, 8)), "BMP"), 415),
    "GIF": (saved(Image.new("L", (8, 8)), "GIF"), 415),
    "JPEG 2000": (b"\x00\x00\x00\x0cjP  \r\n\x87\n", 415),
    "no pixels": (png_header(0, 0), 422),
    "billions of pixels in 57 bytes": (png_header(2**31 - 1, 2**31 - 1), 413),
    "two and a half billion pixels": (png_header(50_000, 50_000), 413),
    "a hundred million, of which Pillow would only warn": (png_header(10_000, 10_000), 413),
    "nine million pixels in nine kilobytes": (bomb(3_000), 413),
    "40 MB of text in 40 kB, zTXt": (with_chunks((b"zTXt", b"a\0\0" + LONG_TEXT)), 422),
    "40 MB of text in 40 kB, iTXt": (with_chunks((b"iTXt", b"a\0\1\0\0\0" + LONG_TEXT)), 422),
    "40 MB of colours in 40 kB, iCCP": (with_chunks((b"iCCP", b"a\0\0" + LONG_TEXT)), 422),
    "two hundred colour profiles": (with_chunks(*[(b"iCCP", b"a\0\0" + zlib.compress(b"b"))] * 200), 422),
    "4 MB of text, of which no piece is long": (with_texts(60, 60_000), 422),
    "54 MB of text in 55 kB": (with_texts(60, 900_000), 422),
    "two hundred scans in 3 kB": (with_scans(200), 422),
    "two hundred segments in 1 kB": (with_segments(200, b"\xff\xe5\x00\x02"), 422),
    "a hundred and twenty blocks of EXIF": (with_segments(120, EXIF), 422),
    "a PNG that is cut off": (picture()[:-30], 422),
    "a JPEG that is cut off": (saved(Image.linear_gradient("L").resize((8, 8)), "JPEG")[:-30], 422),
    "a WebP that is cut off": (saved(Image.linear_gradient("L").resize((8, 8)), "WEBP", lossless=True)[:-8], 422),
    "a PNG of unknown pieces": (picture().replace(b"IDAT", b"IDAU"), 422),
    "a PNG with flipped bits": (flipped(picture(), picture().index(b"IDAT") + 8), 422),
    "a PNG that moves": (animated(), 422),
    "a WebP that moves": (
        saved(Image.new("L", (8, 8)), "WEBP", save_all=True, append_images=[Image.new("L", (8, 8), 255)]), 422),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
async def test_what_cannot_be_a_picture_is_refused(client: httpx.AsyncClient, way: str, name: str) -> None:
    """The answer has no traceback and no part of the sent bytes."""
    content, status = REFUSED[name]

    answer = await client.post("/v1/encode", **WAYS[way](content))

    assert answer.status_code == status, answer.text
    assert len(answer.content) < 1024
    assert "Traceback" not in answer.text
    assert not content or content[:12].decode("latin-1") not in answer.text
    assert not content or base64_of(content)[:16] not in answer.text


async def test_pixels_that_cannot_be_afforded_are_never_unpacked(
    client: httpx.AsyncClient, way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The number of pixels is read from the head of the file."""
    unpacked: list[ImageFile.ImageFile] = []
    monkeypatch.setattr(ImageFile.ImageFile, "load", lambda bomb: unpacked.append(bomb))  # noqa: PLW0108  # a method
    bombs = [content for content, status in REFUSED.values() if status == 413]

    statuses = {(await client.post("/v1/encode", **WAYS[way](bomb))).status_code for bomb in bombs}

    assert statuses == {413}
    assert unpacked == []


ODD = {
    "behind it an archive": picture(colour=255) + b"PK\x05\x06" + bytes(18),
    "one bit": saved(WHITE.convert("1"), "PNG"),
    "grey with alpha": saved(WHITE.convert("LA"), "PNG"),
    "palette": saved(WHITE.convert("P"), "PNG"),
    "palette with transparency": saved(WHITE.convert("P"), "PNG", transparency=5),
    "colour with alpha": saved(WHITE.convert("RGBA"), "PNG"),
    "CMYK": saved(WHITE.convert("CMYK"), "JPEG", quality=100),
    "sixteen bits": saved(Image.fromarray(np.full((8, 8), 65_535, np.uint16)), "PNG"),
    "JPEG": saved(WHITE, "JPEG", quality=100),
    "progressive": saved(WHITE, "JPEG", quality=100, progressive=True),
    "a little EXIF, many times": with_segments(50, EXIF),
    "WebP": saved(WHITE, "WEBP", lossless=True),
    "interlaced": interlaced(),
    "a megabyte of text": with_texts(16, 60_000),
    "a printer's colour profile": with_chunks((b"iCCP", b"a\0\0" + zlib.compress(bytes(900_000)))),
    "text and another program's piece behind the pixels": with_chunks(
        (b"tEXt", b"a\0b"), (b"prVt", b"c"), before=b"IEND"
    ),
}


@pytest.mark.parametrize("name", ODD)
async def test_odd_pictures_of_white_are_white(client: httpx.AsyncClient, way: str, name: str) -> None:
    """The latents of such pictures equal the latents of a plain white picture."""
    plain = await client.post("/v1/encode", content=picture(colour=255), headers=PNG)
    odd = await client.post("/v1/encode", **WAYS[way](ODD[name]))

    assert odd.status_code == 200, odd.text
    assert odd.json()["latents"] == plain.json()["latents"]


async def test_sixteen_bit_grey_is_scaled_and_not_clipped(client: httpx.AsyncClient, way: str) -> None:
    """Half of 65535 becomes half of 255."""
    deep = saved(Image.fromarray(np.full((8, 8), 32_896, np.uint16)), "PNG")
    answers = [await client.post("/v1/encode", **WAYS[way](content)) for content in (deep, picture(colour=128))]

    assert answers[0].json()["latents"] == answers[1].json()["latents"]


async def test_picture_is_turned_upright(client: httpx.AsyncClient, way: str) -> None:
    """The EXIF orientation is applied before the size is compared."""
    image = Image.linear_gradient("L").resize((8, 8))
    exif = Image.Exif()
    exif[0x0112] = 6
    turned = saved(image, "PNG", exif=exif)
    upright = saved(image.transpose(Image.Transpose.ROTATE_270), "PNG")
    answers = [await client.post("/v1/encode", **WAYS[way](content)) for content in (turned, upright)]

    assert answers[0].json()["latents"] == answers[1].json()["latents"]


async def test_picture_is_turned_upright_by_what_stands_behind_its_pixels(client: httpx.AsyncClient) -> None:
    """A PNG may have its EXIF after the pixels."""
    exif = Image.Exif()
    exif[0x0112] = 6
    plain = picture()
    late = plain[:-12] + chunk(b"eXIf", exif.tobytes()[6:]) + plain[-12:]
    upright = saved(Image.open(io.BytesIO(plain)).transpose(Image.Transpose.ROTATE_270), "PNG")
    answers = [await client.post("/v1/encode", content=content, headers=PNG) for content in (late, upright)]

    assert answers[0].json()["latents"] == answers[1].json()["latents"]


async def test_no_more_text_is_unpacked_than_one_picture_may_have(monkeypatch: pytest.MonkeyPatch) -> None:
    """The limit holds for all pictures of a request together."""
    target = Target(ModelVersion("grey", 1), (1, 8, 8), "none", 64, 16 * 64)
    texts: list[bytes] = []
    unpack = PngImagePlugin._safe_zlib_decompress

    def unpacked(data: bytes) -> bytes:
        texts.append(unpack(data))
        return texts[-1]

    monkeypatch.setattr(PngImagePlugin, "_safe_zlib_decompress", unpacked)
    with pytest.raises(BadImage):
        pictures.decode(pictures.inspect_all([with_texts(40, 60_000)] * 16, target), target)

    assert 1_000_000 < sum(map(len, texts)) < 1_200_000


async def test_of_what_else_is_in_a_picture_nothing_is_kept() -> None:
    """Metadata uses no memory while the pixels are decoded, nor while they are resized."""
    target = Target(ModelVersion("grey", 1), (1, 8, 8), "none", 64, 64)
    words = ((b"tEXt", b"a\0b"), (b"iCCP", b"a\0\0" + zlib.compress(b"b")), (b"prVt", b"c"))
    before, behind = with_chunks(*words), with_chunks(*words, before=b"IEND")

    structures = pictures.inspect_all([before], target) + pictures.inspect_all([behind], target)
    opened = [pictures.open_picture("The picture", structure, target) for structure in structures]
    for one in opened:
        assert isinstance(one.picture, PngImagePlugin.PngImageFile)
        assert one.picture.png is not None
        assert (one.picture.info, one.picture.png.im_text, one.picture.private_chunks) == ({}, {}, [])

    for one in opened:
        pictures.decode_picture(one, target)
        assert isinstance(one.picture, PngImagePlugin.PngImageFile)
        assert (one.picture.info, one.picture.text, one.picture.private_chunks) == ({}, {}, [])


@pytest.mark.parametrize(
    ("content", "in_place"),
    [
        pytest.param(picture(), ["inspect_all", "decode"], id="small"),
        pytest.param(picture((90, 90)), ["inspect_all"], id="many-pixels"),
        pytest.param(with_texts(1, 60_000), ["inspect_all"], id="a-text-that-unpacks"),
        pytest.param(with_chunks((b"prVt", bytes(70_000))), [], id="many-bytes"),
    ],
)
async def test_large_picture_is_read_in_another_process(
    client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch, content: bytes, in_place: list[str]
) -> None:
    """A picture holds up others neither by its pixels nor by its bytes: both are looked at before work is begun."""
    called: list[str] = []
    monkeypatch.setattr(sent_images, "LIGHT_PICTURE_COST", 90 * 90 - 1)
    for name in ("inspect_all", "decode"):
        monkeypatch.setattr(pictures, name, noting_its_name(called, getattr(pictures, name)))

    answer = await client.post("/v1/encode?resize=cover", content=content, headers=PNG)

    assert answer.status_code == 200
    assert called == in_place


def noting_its_name(called: list[str], function: Callable[..., Any]) -> Callable[..., Any]:
    """The function, which notes that it is called in this process."""

    def noting(*args: object) -> object:
        called.append(function.__name__)
        return function(*args)

    return noting


async def test_pixels_are_counted_over_all_pictures_of_a_request(client: httpx.AsyncClient) -> None:
    """Each picture is below the limit, all together are above it."""
    answer = await client.post("/v1/encode?resize=cover", **multipart(*[picture((90, 90))] * 3))

    assert answer.status_code == 413
