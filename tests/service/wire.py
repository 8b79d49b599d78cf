"""The bodies that tests send to the service, and readers of its answers."""

import base64
import io
import struct
import zlib
from typing import Any

import httpx
import numpy as np
from PIL import Image

PNG = {"Content-Type": "image/png"}
JSON = {"Content-Type": "application/json"}
NPY = {"Content-Type": "application/x-npy"}
SAFETENSORS = {"Content-Type": "application/vnd.safetensors"}


def picture(
    size: tuple[int, int] = (8, 8), mode: str = "L", colour: int | tuple[int, ...] | None = None, kind: str = "PNG"
) -> bytes:
    """An encoded picture: a grey ramp, or all of one colour."""
    image = Image.linear_gradient("L").resize(size).convert(mode) if colour is None else Image.new(mode, size, colour)
    return saved(image, kind)


def saved(image: Image.Image, kind: str, **options: Any) -> bytes:
    """The bytes of a picture in a format."""
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def chunk(kind: bytes, data: bytes) -> bytes:
    """A piece of a PNG."""
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png_header(width: int, height: int) -> bytes:
    """A PNG of 57 bytes that claims to be of that size."""
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", b"") + chunk(b"IEND", b"")


def animated() -> bytes:
    """A PNG of two frames."""
    buffer = io.BytesIO()
    frames = [Image.new("L", (8, 8), value) for value in (0, 255)]
    frames[0].save(buffer, "PNG", save_all=True, append_images=frames[1:])
    return buffer.getvalue()


def npy(array: np.ndarray, *, allow_pickle: bool = False) -> bytes:
    """An npy file."""
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=allow_pickle)
    return buffer.getvalue()


def read_npy(response: httpx.Response) -> np.ndarray:
    """The array of an answer."""
    array: np.ndarray = np.load(io.BytesIO(response.content))
    return array


def opened(response: httpx.Response) -> Image.Image:
    """The picture of an answer."""
    return Image.open(io.BytesIO(response.content))


def base64_of(content: bytes) -> str:
    """For JSON."""
    return base64.b64encode(content).decode()


def multipart(*contents: bytes) -> dict[str, Any]:
    """As curl -F sends files."""
    return {"files": [(f"field{number}", ("x.png", content)) for number, content in enumerate(contents)]}


async def ok(response: httpx.Response) -> httpx.Response:
    """The response, which must be a success."""
    assert response.status_code == 200, response.text
    return response
