"""Good requests as bytes, for every route and every Content-Type. Fuzzing mutates them, and a soak sends them."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Iterator

import numpy as np
import safetensors.numpy
from PIL import Image

HOST = b"Host: localhost\r\n"
METHODS = (b"GET", b"HEAD", b"POST", b"PUT", b"DELETE", b"PATCH", b"OPTIONS", b"TRACE")
PLAIN = (b"/", b"/livez", b"/readyz", b"/healthz", b"/metrics", b"/openapi.json", b"/docs", b"/v1/models",
         b"/v1/models/grey")  # fmt: skip
ASKED = (b"/v1/sample?n=2&seed=7&format=json", b"/v1/traverse?dims=0,1&steps=3", b"/v1/models/grey@1/sample")
OF_IMAGES = (b"/v1/encode?latents=sample&seed=1", b"/v1/reconstruct?format=json", b"/v1/score?importance_samples=3")
OF_LATENTS = (b"/v1/decode?format=npy", b"/v1/models/grey/interpolate?steps=3")
# of Remote VAE: the query says what the body is
OF_REMOTE_VAE = (
    b"/v1/remote/encode?do_scaling=True",
    b"/v1/models/grey/remote/encode?dtype=float16&shape=2&shape=1&shape=8&shape=8",
    b"/v1/remote/decode?dtype=float16&shape=3&image_format=png&scaling_factor=0.5",
    b"/v1/models/grey/remote/decode?dtype=float16&shape=2&shape=3&output_type=pt&partial_postprocess=True",
)

_BOUNDARY = b"boundary"


def png(size: tuple[int, int] = (8, 8)) -> bytes:
    """A picture of a ramp."""
    buffer = io.BytesIO()
    Image.linear_gradient("L").resize(size).save(buffer, "PNG")
    return buffer.getvalue()


def pictures() -> tuple[bytes, ...]:
    """The same picture in each format that the service reads, and in unusual modes."""
    ramp = Image.linear_gradient("L").resize((8, 8))
    kinds = [(ramp, "PNG"), (ramp.convert("P"), "PNG"), (ramp.convert("RGBA"), "PNG"), (ramp.convert("CMYK"), "JPEG"),
             (ramp, "JPEG"), (ramp, "WEBP")]  # fmt: skip
    contents = []
    for image, kind in kinds:
        buffer = io.BytesIO()
        image.save(buffer, kind)
        contents.append(buffer.getvalue())
    return tuple(contents)


def npy(array: np.ndarray) -> bytes:
    """An npy file."""
    buffer = io.BytesIO()
    np.save(buffer, array)
    return buffer.getvalue()


def image_bodies() -> dict[bytes, bytes]:
    """Two images, or one, by Content-Type."""
    parts = [b"--%b\r\nContent-Disposition: form-data; name=f; filename=f\r\n\r\n%b\r\n" % (_BOUNDARY, png())] * 2
    pixels = np.arange(128, dtype=np.uint8).reshape(2, 8, 8)
    return {
        b"image/png": png(),
        b"multipart/form-data; boundary=" + _BOUNDARY: b"".join(parts) + b"--%b--\r\n" % _BOUNDARY,
        b"application/json": json.dumps({"images": [base64.b64encode(png()).decode()] * 2}).encode(),
        b"application/x-npy": npy(pixels),
        b"application/vnd.safetensors": safetensors.numpy.save({"images": pixels[:, None]}),
    }


def latent_bodies() -> dict[bytes, bytes]:
    """Two latents, by Content-Type."""
    latents = np.array([[0.5, -0.5, 0.1], [1, 2, -1]], np.float32)
    return {
        b"application/json": json.dumps({"latents": latents.tolist()}).encode(),
        b"application/x-npy": npy(latents),
        b"application/vnd.safetensors": safetensors.numpy.save({"latents": latents}),
    }


def remote_vae_bodies() -> tuple[bytes, ...]:
    """A picture, two images, a latent, and two latents: a body for each address of Remote VAE."""
    sizes = (2 * 8 * 8, 3, 2 * 3)
    return png(), *(np.linspace(-1, 1, size, dtype=np.float16).tobytes() for size in sizes)


def request(method: bytes, target: bytes, content_type: bytes = b"", body: bytes = b"") -> bytes:
    """A request after which the connection stays open."""
    about = b"Content-Type: %b\r\nContent-Length: %d\r\n" % (content_type, len(body)) if content_type else b""
    return b"%b %b HTTP/1.1\r\n%b%b\r\n%b" % (method, target, HOST, about, body)


def good() -> Iterator[bytes]:
    """One good request of each kind."""
    for target in (*PLAIN, *ASKED):
        yield request(b"GET", target)
    for targets, bodies in ((OF_IMAGES, image_bodies()), (OF_LATENTS, latent_bodies())):
        for target in targets:
            for content_type, body in bodies.items():
                yield request(b"POST", target, content_type, body)
    for target, body in zip(OF_REMOTE_VAE, remote_vae_bodies(), strict=True):
        yield request(b"POST", target, b"tensor/binary", body)


def any_method() -> Iterator[bytes]:
    """Every method at every route; POST has a body."""
    body = latent_bodies()[b"application/json"]
    for target in (*PLAIN, *ASKED, *OF_IMAGES, *OF_LATENTS, *OF_REMOTE_VAE):
        for method in METHODS:
            yield request(method, target, b"application/json", body) if method == b"POST" else request(method, target)
