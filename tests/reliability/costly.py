"""Requests that cost the most for their size: every format, every way to send it, every endpoint at its largest.

Each request is valid HTTP within the size of a body. A kind of body that is refused costs what it costs to refuse it.
"""

from __future__ import annotations

import base64
import json
import struct
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import NamedTuple

import numpy as np
import safetensors.numpy
from PIL import Image

from ..service.wire import chunk, saved
from .good_requests import npy, request

MiB = 2**20
BODY = 31 * MiB  # a little less than the largest body that the service takes
SIDE = 2048  # of the largest picture, in pixels
BOUNDARY = b"boundary"

PNG, JPEG, WEBP = b"image/png", b"image/jpeg", b"image/webp"
MULTIPART = b"multipart/form-data; boundary=" + BOUNDARY
JSON, NPY, SAFETENSORS = b"application/json", b"application/x-npy", b"application/vnd.safetensors"


class Costly(NamedTuple):
    """A body or a request by its name; it is made when it is needed, since some take a second."""

    name: str
    make: Callable[[], bytes]


def noise(side: int = SIDE, channels: int = 3) -> Image.Image:
    """A picture that compresses badly, and so takes the longest to decode."""
    values = np.random.default_rng(0).integers(0, 256, (side, side, channels), np.uint8)
    return Image.fromarray(values if channels > 1 else values[:, :, 0])


def filled(before: bytes, piece: bytes, after: bytes) -> bytes:
    """A file that repeats a piece until the body is full."""
    return before + piece * ((BODY - len(before) - len(after)) // len(piece)) + after


def filled_with(before: bytes, piece: Callable[[int], bytes], after: bytes) -> bytes:
    """The same with pieces that differ."""
    pieces, size, number = [before], len(before) + len(after), 0
    while size + len(made := piece(number)) <= BODY:
        pieces.append(made)
        size, number = size + len(made), number + 1
    return b"".join([*pieces, after])


def split_png() -> tuple[bytes, bytes, bytes]:
    """A small PNG: what stands before its pixels, the pixels, and what stands behind."""
    good = saved(noise(8, 1), "PNG")
    at = good.index(b"IDAT") - 4
    return good[:at], good[at:-12], good[-12:]


def split_jpeg(*, progressive: bool = False) -> tuple[bytes, bytes, bytes]:
    """A small JPEG: its first marker, what stands before its last scan, and the rest."""
    good = saved(noise(8, 1), "JPEG", progressive=progressive)
    at = good.rindex(b"\xff\xda")
    return good[:2], good[2:at], good[at:]


def long_png(width: int, height: int) -> bytes:
    """A white picture of one colour."""
    return saved(Image.new("L", (width, height), 255), "PNG")


def pngs() -> Iterator[Costly]:
    """PNG files."""
    head, pixels, end = split_png()
    pieces: dict[str, Callable[[int], bytes]] = {
        "empty chunks of an unknown kind": lambda _: chunk(b"noNe", b""),
        "empty chunks, each of another kind": lambda n: chunk(b"n%cN%c" % (97 + n // 26 % 26, 97 + n % 26), b""),
        "empty texts, each with its own key": lambda n: chunk(b"iTXt", b"%d\0\0\0\0\0" % n),
        "texts of the same key": lambda _: chunk(b"tEXt", b"k\0v"),
        "times": lambda _: chunk(b"tIME", bytes(7)),
        "palettes": lambda _: chunk(b"PLTE", bytes(3)),
        "frame controls": lambda n: chunk(b"fcTL", struct.pack(">IIIIIHHBB", n, 8, 8, 0, 0, 1, 1, 0, 0)),
    }  # fmt: skip
    for name, piece in pieces.items():
        yield Costly(f"PNG: {name}", partial(filled_with, head, piece, pixels + end))
        yield Costly(f"PNG: {name}, behind the pixels", partial(filled_with, head + pixels, piece, end))
    yield Costly("PNG: empty IDATs", lambda: filled(head, chunk(b"IDAT", b""), pixels + end))
    yield Costly("PNG: bytes behind its end", lambda: filled(head + pixels + end, b"\0", b""))
    yield Costly("PNG: noise", lambda: saved(noise(), "PNG"))
    yield Costly("PNG: noise, grey", lambda: saved(noise(channels=1), "PNG"))
    yield Costly("PNG: transparent noise", lambda: saved(noise(channels=4), "PNG"))
    yield Costly("PNG: 4194304×1", lambda: long_png(4_194_304, 1))
    yield Costly("PNG: 1×4194304", lambda: long_png(1, 4_194_304))
    yield Costly("PNG: 16384×256", lambda: long_png(16_384, 256))
    yield Costly("PNG: 256×16384", lambda: long_png(256, 16_384))
    yield Costly("PNG: 2048×2048 of one colour", lambda: long_png(2048, 2048))


def jpegs() -> Iterator[Costly]:
    """JPEG files."""
    first, middle, scan = split_jpeg()
    pieces = {
        "padding": b"\xff" * 64,
        "empty segments": b"\xff\xe5\x00\x02",
        "segments of EXIF": b"\xff\xe1\x00\x08Exif\0\0",
        "segments of a profile": b"\xff\xe2\x00\x10ICC_PROFILE\0\x01\x02",
        "segments of Photoshop": b"\xff\xed\x00\x10Photoshop 3.0\0",
        "comments": b"\xff\xfe\x00\x02",
        "restart markers": b"\xff\xd0",
        "restart intervals": b"\xff\xdd\x00\x04\x00\x01",
        "quantisation tables": b"\xff\xdb\x00\x43\x00" + bytes([1] * 64),
        "Huffman tables": b"\xff\xc4\x00\x14\x00" + bytes(16) + b"\x00",
        "frames": b"\xff\xc0\x00\x0b\x08\x00\x08\x00\x08\x01\x01\x11\x00",
        "TEM markers": b"\xff\x01",
    }
    for name, piece in pieces.items():
        yield Costly(f"JPEG: {name}", partial(filled, first, piece, middle + scan))
    p_first, p_middle, p_scan = split_jpeg(progressive=True)
    yield Costly("JPEG: scans", lambda: filled(p_first + p_middle, p_scan[:-2], b"\xff\xd9"))
    yield Costly(
        "JPEG: restart markers in a scan", lambda: filled(first + middle + scan[:-2], b"\xff\xd0", b"\xff\xd9")
    )
    yield Costly("JPEG: bytes behind its end", lambda: filled(first + middle + scan, b"\xff", b""))
    yield Costly("JPEG: noise", lambda: saved(noise(), "JPEG", quality=100, subsampling=0))
    yield Costly("JPEG: progressive noise", lambda: saved(noise(), "JPEG", quality=90, progressive=True))


def webps() -> Iterator[Costly]:
    """WebP files."""

    def riff(content: bytes) -> bytes:
        return b"RIFF" + struct.pack("<I", len(content) + 4) + b"WEBP" + content

    good = saved(noise(8), "WEBP", lossless=True)[12:]
    extended = b"VP8X" + struct.pack("<I", 10) + bytes([0, 0, 0, 0, 7, 0, 0, 7, 0, 0])
    yield Costly("WebP: empty chunks", lambda: riff(filled(extended + good, b"NONE" + bytes(4), b"")))
    yield Costly("WebP: empty chunks before the pixels", lambda: riff(filled(extended, b"NONE" + bytes(4), good)))
    yield Costly("WebP: noise without loss", lambda: saved(noise(), "WEBP", lossless=True, quality=0, method=0))
    yield Costly("WebP: noise", lambda: saved(noise(), "WEBP", quality=100, method=0))
    yield Costly("WebP: 16383×256 of one colour", lambda: saved(Image.new("RGB", (16_383, 256)), "WEBP", lossless=True))


def part(content: bytes, headers: bytes = b"") -> bytes:
    """A part of a form."""
    return (
        b"--%b\r\nContent-Disposition: form-data; name=f; filename=f\r\n%b\r\n%b\r\n" % (BOUNDARY, headers, content)
    )  # fmt: skip


def forms() -> Iterator[Costly]:
    """Multipart bodies."""
    end = b"--%b--\r\n" % BOUNDARY
    small = saved(noise(8, 1), "PNG")
    yield Costly("multipart: 256 small pictures", lambda: part(small) * 256 + end)
    yield Costly("multipart: four of four million pixels", lambda: part(saved(noise(channels=1), "PNG")) * 4 + end)
    yield Costly("multipart: empty parts", lambda: filled(b"", part(b""), end))
    yield Costly(
        "multipart: beginnings of the boundary", lambda: part(filled(b"", b"\r\n--boundar", b"")[: BODY - 200]) + end
    )
    yield Costly("multipart: line ends", lambda: part(filled(b"", b"\r\n", b"")[: BODY - 200]) + end)
    yield Costly("multipart: carriage returns", lambda: part(filled(b"", b"\r", b"")[: BODY - 200]) + end)
    yield Costly("multipart: headers", lambda: part(b"", filled(b"", b"a:b\r\n", b"")[: BODY - 200 - BODY % 5]) + end)
    yield Costly("multipart: one long header", lambda: part(b"", b"a:" + b"b" * (BODY - 200) + b"\r\n") + end)
    yield Costly(
        "multipart: text before the first part", lambda: filled(b"", b"\r\n--boundar", b"\r\n" + part(small) + end)
    )


def texts() -> Iterator[Costly]:
    """JSON bodies of images."""
    small = base64.b64encode(saved(noise(8, 1), "PNG")).decode()
    large = base64.b64encode(saved(noise(channels=1), "PNG")).decode()
    yield Costly("JSON: 256 small pictures", lambda: json.dumps({"images": [small] * 256}).encode())
    yield Costly("JSON: four of four million pixels", lambda: json.dumps({"images": [large] * 4}).encode())
    yield Costly("JSON: one long base64", lambda: b'{"images":["' + b"A" * (BODY - 20) + b'"]}')
    yield Costly("JSON: empty texts", lambda: filled(b'{"images":["', b'","', b'"]}'))
    yield Costly("JSON: escapes", lambda: filled(b'{"images":["', b"\\u0041", b'"]}'))
    yield Costly("JSON: spaces", lambda: filled(b'{"images":[', b" ", b"]}"))
    yield Costly("JSON: brackets", lambda: filled(b'{"images":', b"[", b""))
    yield Costly("JSON: members", lambda: filled_with(b"{", lambda n: b'"%d":0,' % n, b'"a":0}'))


def numbers() -> Iterator[Costly]:
    """JSON bodies of latents."""
    yield Costly("JSON: zeros", lambda: filled(b'{"latents":[[', b"0,", b"0]]}"))
    yield Costly("JSON: long numbers", lambda: filled(b'{"latents":[[', b"0.12345678901234567,", b"0]]}"))
    yield Costly("JSON: integers of many digits", lambda: filled(b'{"latents":[[', b"1" * 400 + b",", b"0]]}"))
    yield Costly("JSON: empty lists", lambda: filled(b'{"latents":[', b"[],", b"[]]}"))
    yield Costly("JSON: lists of one", lambda: filled(b'{"latents":[', b"[0],", b"[0]]}"))
    yield Costly("JSON: nested lists", lambda: filled(b'{"latents":[', b"[[[[[[[[0]]]]]]]],", b"[[[[[[[[0]]]]]]]]]}"))


def image_arrays() -> Iterator[tuple[bytes, Costly]]:
    """npy and safetensors bodies of images."""
    kinds = {"uint8": np.uint8, "uint16": np.uint16, "float64": np.float64, "bool": np.bool_}
    for name, kind in kinds.items():
        sides = {
            f"one of {SIDE}×{SIDE}": (1, SIDE, SIDE),
            "256 of 128×128": (256, 128, 128),
            "one of 16384×200": (1, 16_384, 200),
        }
        for shape_name, shape in sides.items():
            if np.prod(shape) * np.dtype(kind).itemsize < BODY:
                yield (
                    NPY,
                    Costly(f"npy: {name}, {shape_name}", partial(ones, shape, kind)),
                )
    yield (
        SAFETENSORS,
        Costly(
            f"safetensors: uint8, 4 of 3×{SIDE // 2}×{SIDE // 2}",
            lambda: safetensors.numpy.save({"images": np.ones((4, 3, SIDE // 2, SIDE // 2), np.uint8)}),
        ),
    )
    yield SAFETENSORS, Costly("safetensors: a long header", lambda: long_header(b'{"__metadata__":{%b}}'))
    yield (
        NPY,
        Costly("npy: a long header", lambda: b"\x93NUMPY\x02\x00" + struct.pack("<I", BODY - 12) + b" " * (BODY - 12)),
    )


def ones(shape: tuple[int, ...], kind: type[np.generic]) -> bytes:
    """An npy file of white or nearly black images."""
    return npy(np.ones(shape, kind))


def long_header(pattern: bytes) -> bytes:
    """A safetensors file with a header that is nearly the whole body."""
    header = pattern % filled_with(b"", lambda n: b'"%d":"",' % n, b'"a":""')[: BODY - 40].rpartition(b",")[0]
    return struct.pack("<Q", len(header)) + header


def any_size() -> Iterator[tuple[str, bytes, Costly]]:
    """Requests to a model of any size, and clients of Remote VAE: many sizes, many latents, and shapes that lie."""
    tiny = "/v1/models/tiny"
    sizes = [long_png(8 * (1 + index % 32), 8 * (1 + index // 32)) for index in range(256)]
    pad = f"{tiny}/encode?fit=pad&format=json"
    yield pad, MULTIPART, Costly("any size: 256 pictures of 256 sizes", lambda: _form(sizes))
    yield (
        f"{tiny}/decode",
        JSON,
        Costly(
            "any size: latents of one pixel",
            lambda: filled(b'{"latents":[', b"[[[0]],[[0]],[[0]],[[0]]],", b"[[[0]]]]}"),
        ),
    )
    many = f"{tiny}/decode?format=safetensors"
    yield many, SAFETENSORS, Costly("any size: 128 latents of 128 shapes", _latents_of_many_shapes)
    for name, query in {
        "a shape of many axes": "shape=1&" * 1000 + "dtype=float32",
        "a shape without end": f"shape=1&shape=4&shape={2**31 - 1}&shape={2**31 - 1}&dtype=float32",
        "256 small latents": "shape=256&shape=4&shape=2&shape=2&dtype=float32",
    }.items():
        size = 4 * 256 * 4 * 2 * 2 if name.startswith("256") else BODY
        yield f"{tiny}/remote/decode?{query}&output_type=pt", NPY, Costly(f"Remote VAE: {name}", partial(bytes, size))
    encode = "/v1/models/colour/remote/encode"
    for kind, value_bytes in {"uint8": 1, "float16": 2, "float32": 4}.items():
        shape, size = "shape=256&shape=3&shape=64&shape=64", 256 * 3 * 64 * 64 * value_bytes
        yield f"{encode}?{shape}&dtype={kind}", NPY, Costly(f"Remote VAE: 256 images, {kind}", partial(bytes, size))
    yield encode, PNG, Costly("Remote VAE: a picture of 16384×256", lambda: long_png(16_384, 256))


def _form(files: Sequence[bytes]) -> bytes:
    return b"".join(map(part, files)) + b"--" + BOUNDARY + b"--\r\n"


def _latents_of_many_shapes() -> bytes:
    return safetensors.numpy.save(
        {f"latents.{index}": np.zeros((4, 1 + index % 16, 1 + index // 16), np.float32) for index in range(128)}
    )


def posts() -> Iterator[tuple[str, bytes, Costly]]:
    """The address, the Content-Type and the body of every POST."""
    encode = "/v1/encode?resize=stretch&format=npy"
    for content_type, kinds in ((PNG, pngs), (JPEG, jpegs), (WEBP, webps), (MULTIPART, forms), (JSON, texts)):
        for costly in kinds():
            yield encode, content_type, costly
    for content_type, costly in image_arrays():
        yield encode, content_type, costly
    for costly in numbers():
        yield "/v1/decode?format=npy", JSON, costly
    for resize in ("contain", "cover"):
        yield f"/v1/encode?resize={resize}", PNG, Costly(f"PNG: 16384×256, {resize}", lambda: long_png(16_384, 256))
        yield f"/v1/encode?resize={resize}", PNG, Costly(f"PNG: 1×1, {resize}", lambda: long_png(1, 1))
    yield from any_size()


def gets(latent_values: int) -> Iterator[str]:
    """The address of every GET at its largest, in every format."""
    for wanted in ("png", "jpeg", "webp", "json", "npy", "safetensors"):
        yield f"/v1/sample?n=256&format={wanted}"
        steps = 256 // min(latent_values, 8)
        yield f"/v1/traverse?dims={','.join(map(str, range(min(latent_values, 8))))}&steps={steps}&format={wanted}"
    yield from ("/metrics", "/docs", "/openapi.json", "/v1/models", "/", "/healthz")


def requests(latent_values: int) -> Iterator[Costly]:
    """Every costly request as bytes."""
    for target in gets(latent_values):
        yield Costly(f"GET {target}", partial(request, b"GET", target.encode()))
    for target, content_type, costly in posts():
        yield Costly(costly.name, partial(posted, target, content_type, costly))


def posted(target: str, content_type: bytes, body: Costly) -> bytes:
    """A POST with the body."""
    return request(b"POST", target.encode(), content_type, body.make())
