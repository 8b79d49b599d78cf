"""Bad input gets a clear answer: the right status and form, no traceback and no echo; the service goes on."""

import errno
import io
import json
import pickle
import re
import struct
import tracemalloc
from collections.abc import AsyncIterator, Iterator
from typing import Annotated, Any

import httpx
import numpy as np
import pytest
import safetensors.numpy
import structlog
from fastapi import FastAPI, Query

from model_store import StoreError
from service import errors
from service.http.problems import STATUS, as_problem
from service.operations.session import Session
from service.settings import Settings
from service.telemetry.scrapes import Scrapes

from ..conftest import running
from ..wire import JSON, NPY, PNG, SAFETENSORS, animated, base64_of, multipart, npy, picture, png_header

pytestmark = pytest.mark.anyio


def form(header: bytes, content: bytes) -> dict[str, Any]:
    """A form of one part, whose Content-Disposition goes on with this header."""
    body = b"--b\r\nContent-Disposition: form-data%b\r\n\r\n%b\r\n--b--\r\n" % (header, content)
    return encode(body, **{"Content-Type": "multipart/form-data; boundary=b"})


def npy_header(shape: str) -> bytes:
    """An npy file without data, whose header has this text as its shape."""
    header = f"{{'descr': '<f4', 'fortran_order': False, 'shape': {shape}, }}".encode()
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header


def safetensors_header(header: bytes) -> bytes:
    """A safetensors file without data."""
    return struct.pack("<Q", len(header)) + header


def encode(content: bytes = b"", query: str = "", **headers: str) -> dict[str, Any]:
    """An encode request of a PNG, unless a header says otherwise."""
    return {"method": "POST", "url": f"/v1/encode{query}", "content": content, "headers": {**PNG, **headers}}


def decode(content: bytes | str, headers: dict[str, str] = JSON) -> dict[str, Any]:
    """A decode request."""
    return {"method": "POST", "url": "/v1/decode", "content": content, "headers": headers}


def interpolate(content: str) -> dict[str, Any]:
    """An interpolate request."""
    return {"method": "POST", "url": "/v1/interpolate", "content": content, "headers": JSON}


def many(piece: str, count: int) -> str:
    """A JSON list."""
    return f"[{','.join([piece] * count)}]"


def tensor(array: np.ndarray) -> dict[str, Any]:
    """An encode request of images as safetensors."""
    return encode(safetensors.numpy.save({"images": array}), **SAFETENSORS)


def get(url: str) -> dict[str, Any]:
    """A GET request."""
    return {"method": "GET", "url": url}


CASES = {
    # 400: not what its Content-Type says
    "json-that-is-none": (decode("{"), 400, "it is not JSON"),
    "json-nested-too-deeply": (decode('{"latents":' + "[" * 40_000), 400, "it is not JSON"),
    "json-in-bad-utf-8": (decode(b'{"latents": ["\xff"]}'), 400, "it is not JSON"),
    "json-of-a-picture": (decode(picture()), 400, "it is not JSON"),
    "json-with-half-a-character": (decode('{"latents": ["\\ud800"]}'), 400, "it is not JSON"),
    "json-with-a-number-of-5000-digits": (decode(f'{{"latents": [[{"9" * 5_000}, 1, 2]]}}'), 400, "it is not JSON"),
    "json-empty": (decode(""), 400, "it is not JSON"),
    "npy-that-is-none": (decode(b"no npy", NPY), 400, "its header cannot be read"),
    "npy-cut-off": (decode(npy(np.zeros((2, 3), np.float32))[:-1], NPY), 400, "bytes of data, its header says"),
    "npy-too-long": (decode(npy(np.zeros((2, 3), np.float32)) + b"x", NPY), 400, "bytes of data, its header says"),
    "safetensors-that-is-none": (decode(b"no safetensors", SAFETENSORS), 400, "its header cannot be read"),
    "npy-of-negative-shape": (decode(npy_header("(-1, -8, 8)"), NPY), 400, "its shape is not"),
    "npy-of-endless-shape": (decode(npy_header("(0, 10**30)"), NPY), 400, "cannot be read"),
    "npy-of-astronomic-shape": (decode(npy_header(f"(0, {10**30})"), NPY), 400, "its shape is not"),
    "npy-of-many-dimensions": (decode(npy_header(str((1,) * 65)), NPY), 400, "its shape is not"),
    "npy-of-truths": (decode(npy_header("(True, 8, 8)"), NPY), 400, "its shape is not"),
    "npy-that-does-not-end": (decode(npy_header("(((("), NPY), 400, "cannot be read"),
    "npy-with-an-open-string": (decode(npy_header("'''"), NPY), 400, "cannot be read"),
    "npy-of-objects": (decode(npy(np.array([None]), allow_pickle=True), NPY), 422, "expected float32 or float16"),
    "safetensors-of-astronomic-shape": (
        decode(safetensors_header(b'{"latents":{"dtype":"F32","shape":[9223372036854775808,0],"data_offsets":[0,0]}}'),
               SAFETENSORS), 400, "cannot be read"),
    "safetensors-of-many-dimensions": (
        decode(safetensors.numpy.save({"latents": np.zeros((1,) * 30, np.float32)}), SAFETENSORS),
        400, "its shape is not"),
    "multipart-without-boundary": (
        encode(b"x", **{"Content-Type": "multipart/form-data"}), 400, "names no boundary"),
    "multipart-cut-off": (
        encode(b'--b\r\nContent-Disposition: form-data; name="f"; filename="f"\r\n\r\nabc',
               **{"Content-Type": "multipart/form-data; boundary=b"}), 400, "cut off before its closing boundary"),
    "multipart-of-nothing": (
        encode(b"--b--\r\n", **{"Content-Type": "multipart/form-data; boundary=b"}), 400, "no part with a file"),
    "multipart-of-broken-base64": (
        form(b'; name="f"; filename="f"\r\nContent-Transfer-Encoding: base64', b"abc"), 400, "the base64 of a part"),
    "multipart-without-names": (form(b"", b"abc"), 400, "a part has no Content-Disposition: form-data with a name"),
    "multipart-with-another-boundary": (
        encode(b"--a\r\n\r\n--a--\r\n", **{"Content-Type": "multipart/form-data; boundary=b"}),
        400, "do not follow the boundary"),
    "encoding-of-markup": (
        encode(b"x", **{"Content-Encoding": "<script>", **PNG}), 415, "The Content-Encoding is not supported"),
    # 404
    "no-such-path": (get("/v2"), 404, "/docs lists the addresses that exist"),
    "slash-at-the-end": (get("/v1/models/"), 404, "leave out the slash at its end: /v1/models."),
    "no-such-model": (get("/v1/models/blue/sample"), 404, "No model blue; there is colour@1, grey@1"),
    "no-such-version": (get("/v1/models/grey@9"), 404, "No model grey@9"),
    "name-that-climbs": (get("/v1/models/..%2f..%2fetc/sample"), 404, ""),
    "name-that-is-none": (get("/v1/models/a%00b%0d%0a/sample"), 404, "is not the name of a model"),
    # 405, 406, 415
    "wrong-method-of-two": (
        {"method": "DELETE", "url": "/v1/sample"}, 405, "does not take DELETE; send GET or HEAD"),
    "wrong-method": (get("/v1/encode"), 405, "does not take GET; send POST"),
    "latents-as-a-picture": (encode(picture(), "?format=png"), 406, "ask for one of json, npy, safetensors"),
    "format-that-does-not-exist": ({**get("/v1/sample"), "headers": {"Accept": "audio/mpeg"}}, 406, "image/png"),
    "media-type-that-is-not-read": (encode(b"x", **{"Content-Type": "text/plain"}),
                               415, "The Content-Type text/plain is not supported; send one of image/png"),
    "media-type-of-markup": (encode(b"x", **{"Content-Type": "<script>/x"}), 415, "The Content-Type is not supported"),
    "no-media-type": ({"method": "POST", "url": "/v1/encode", "content": b"x"},
                      415, "The request has no Content-Type; send one of image/png"),
    "picture-to-decode": (decode(picture(), PNG), 415, "send one of application/json"),
    **{
        f"{encoding}-{media_type}": (encode(bytes(100), **{"Content-Encoding": encoding, "Content-Type": media_type}),
                                     415, f"The Content-Encoding {encoding} is not supported; send the body as it is")
        for encoding in ("gzip", "deflate", "br,gzip", "identity, gzip", "zstd")
        for media_type in ("image/png", "application/json", "multipart/form-data; boundary=b", *NPY.values())
    },
    "avif": (encode(picture(kind="AVIF")), 415, "The picture format AVIF is not supported; send one of image/png"),
    "gif": (encode(picture(kind="GIF")), 415, "The picture format GIF is not supported; send one of image/png"),
    "tiff": (encode(picture(kind="TIFF")), 415, "image/webp"),
    "bmp": (encode(picture(kind="BMP")), 415, "image/webp"),
    "svg": (encode(b"<svg xmlns='http://www.w3.org/2000/svg'/>"), 415, "image/webp"),
    # 413: too large
    "body": (encode(b"x" * 100_001), 413, "The body has 100,001 bytes, the limit is 100,000"),
    "picture-of-many-pixels": (encode(picture((101, 100)), "?resize=cover"),
        413, "10,100 pixels, the limit is 10,000; send it smaller, or raise max_pixels"),
    "picture-that-claims-billions": (encode(png_header(2**31 - 1, 2**31 - 1)), 413, "pixels"),
    "picture-that-claims-a-hundred-million": (encode(png_header(10_000, 10_000)), 413, "pixels"),
    "pictures-together": (
        {"method": "POST", "url": "/v1/encode?resize=cover", **multipart(*[picture((100, 90))] * 3)},
        413, "The request has more than the limit of 20,000 pixels; send fewer or smaller ones"),
    "too-many-parts": (
        {"method": "POST", "url": "/v1/encode", **multipart(*[picture()] * 17)},
        413, "The body has more than the limit of 16 images; send"),
    "too-many-in-json": (
        {"method": "POST", "url": "/v1/encode", "json": {"images": ["AA=="] * 17}}, 413, "17 images, the limit is 16"),
    "too-many-in-an-array": (
        encode(npy(np.zeros((17, 8, 8), np.uint8)), **NPY), 413, "17 images, the limit is 16"),
    "more-in-an-array-than-the-queue-holds": (
        encode(npy(np.zeros((101, 8, 8), np.uint8)), **NPY), 413, "101 images, the limit is 16"),
    "data-uri-without-base64": (
        {"method": "POST", "url": "/v1/encode", "json": {"images": ["data:image/svg+xml,<svg/>"]}},
        422, "a data: URI that holds base64"),
    "too-many-in-a-tensor": (tensor(np.zeros((17, 1, 8, 8), np.uint8)), 413, "17 images, the limit is 16"),
    "too-many-latents": (decode(npy(np.zeros((17, 3), np.float32)), NPY), 413, "17 images, the limit is 16"),
    "latents-by-the-million": (decode(npy(np.zeros((10**6, 3), np.float32)), NPY), 413, "12,000,128 bytes"),
    "empty-latents-by-the-thousand": (
        decode(f'{{"latents": {many("[]", 33_000)}}}'), 413, "values, the limit is 65,536"),
    "pair-of-empty-latents-by-the-thousand": (
        interpolate(f'{{"latents": {many("[]", 33_000)}}}'), 413, "values, the limit is 65,536"),
    "images-that-are-lists-by-the-thousand": (
        {"method": "POST", "url": "/v1/encode", "content": f'{{"images": {many("[]", 33_000)}}}', "headers": JSON},
        413, "values, the limit is 65,536"),
    "too-many-steps": (get("/v1/traverse?steps=1000000000"), 413, "images, the limit is 16"),
    "too-many-samples": (get("/v1/sample?n=1000000000"), 413, "the limit is 16; send, or ask for, fewer images"),
    # 422: well-formed, but wrong
    "no-picture": (encode(b"no picture"), 422, "it is not a PNG, JPEG or WebP file; send the file byte for byte"),
    "empty-picture": (encode(b""), 422, "The picture cannot be read: it is empty; send the bytes of the file."),
    "picture-cut-off": (encode(picture()[:-40]), 422, "it is damaged or cut off; send the file byte for byte"),
    "picture-with-flipped-bits": (encode(picture()[:60] + b"\xff" + picture()[61:]), 422, "damaged"),
    "picture-that-moves": (encode(animated()), 422, "it is an animation"),
    "picture-of-another-size": (
        encode(picture((9, 8))), 422, "The picture is 8×9, but grey@1 takes 8×8; ask for resize=contain"),
    "one-of-several": (
        {"method": "POST", "url": "/v1/encode", **multipart(picture(), b"x")}, 422, "Picture 2 cannot be read"),
    "text-part": ({"method": "POST", "url": "/v1/encode", "data": {"a": "b"}, "files": {"c": b""}}, 422, "is text"),
    "no-base64": ({"method": "POST", "url": "/v1/encode", "json": {"images": ["!"]}}, 422, "it is not base64"),
    "address": (
        {"method": "POST", "url": "/v1/encode", "json": {"images": ["http://127.0.0.1/x.png"]}},
        422, "addresses are not fetched"),
    "no-images": ({"method": "POST", "url": "/v1/encode", "json": {"images": []}},
                  422, "images must have a length of at least 1"),
    "no-field": ({"method": "POST", "url": "/v1/encode", "json": {"image": []}}, 422, "images is required; add it"),
    "unknown-field": (
        {"method": "POST", "url": "/v1/encode", "json": {"images": [base64_of(picture())], "image": 1}},
        422, "image is not known; did you mean images?"),
    "image-that-is-a-number": ({"method": "POST", "url": "/v1/encode", "json": {"images": [1]}},
                               422, "images.0 must be a text, not 1"),
    "images-that-are-many-numbers": (
        {"method": "POST", "url": "/v1/encode", "content": f'{{"images": {many("1", 40_000)}}}', "headers": JSON},
        422, "images.0 must be a text"),
    "pair-of-many-numbers": (
        interpolate(f'{{"images": {many("1", 40_000)}}}'), 422, "images.0 must be a text"),
    "many-unknown-fields": (
        decode(json.dumps({"latents": [[0, 0, 0]]} | {f"field{number}": 1 for number in range(100)})),
        422, "field0 is not known; the known names are latent_space, latents, scaled"),
    "far-too-many-fields": (
        decode(json.dumps({"latents": [[0, 0, 0]]} | {f"field{number}": 1 for number in range(5_000)})),
        413, "5,001 members, the limit is 132; send less"),
    "tensors-that-are-many": (
        encode(safetensors.numpy.save({f"x{n}": np.zeros(0, np.uint8) for n in range(1_200)}), **SAFETENSORS),
        422, "the limit is 65,536; send one tensor"),
    "array-of-integers": (encode(npy(np.zeros((1, 8, 8), np.int64)), **NPY), 422, "int64; expected uint8 or uint16"),
    "tensor-of-integers": (tensor(np.zeros((1, 1, 8, 8), np.int64)), 422, "int64; expected uint8 or uint16"),
    "array-of-12-bits": (
        encode(npy(np.full((1, 8, 8), 4095, np.uint16)), **NPY), 422, "brightest value is 4095 of 65535"),
    "tensor-of-12-bits": (tensor(np.full((1, 1, 8, 8), 4095, np.uint16)), 422, "brightest value is 4095 of 65535"),
    "latents-of-doubles-to-interpolate": (
        {"method": "POST", "url": "/v1/interpolate", "content": npy(np.zeros((2, 3))), "headers": NPY},
        422, "The latents have the type float64; expected float32 or float16"),
    "array-beyond-its-range": (
        encode(npy(np.full((1, 8, 8), 255, np.float32)), **NPY),
        422, "An image holds 255; float images are in [0, 1]: divide by 255, or send uint8"),
    "array-of-many-pixels": (
        encode(npy(np.zeros((1, 101, 100), np.uint8)), "?resize=cover", **NPY),
        413, "An image has 10,100 pixels, the limit is 10,000; send it smaller, or raise max_pixels"),
    "arrays-together": (
        encode(npy(np.zeros((3, 100, 90), np.uint8)), "?resize=cover", **NPY),
        413, "The request has 27,000 pixels, the limit is 20,000; send fewer or smaller ones"),
    "tensor-of-another-size": (tensor(np.zeros((1, 1, 9, 8), np.uint8)), 422, "9×8, but grey@1 takes 8×8; ask for res"),
    "tensor-of-no-images": (tensor(np.zeros((0, 1, 8, 8), np.uint8)), 422, "one image at least"),
    "tensor-of-too-few-dimensions": (tensor(np.zeros((1, 8, 8), np.uint8)), 422, "expected (B, C, H, W)"),
    "array-of-another-size": (
        encode(npy(np.zeros((1, 9, 8), np.uint8)), **NPY),
        422, "The picture is 9×8, but grey@1 takes 8×8; ask for resize=contain"),
    **{
        f"array-of-one-picture-{count}×{height}×{width}": (
            encode(npy(np.zeros((count, height, width), np.uint8)), **NPY),
            422, f"is read as {count} images of {height}×{width}, but grey@1 takes 8×8; "
            f"send one picture with channels in the shape (1, {count}, {height}, {width})")
        for count, height, width in ((8, 8, 3), (8, 8, 1), (9, 7, 4), (28, 28, 3))
    },
    "array-of-one-picture-to-interpolate": (
        {"method": "POST", "url": "/v1/interpolate", "content": npy(np.zeros((8, 8, 3), np.uint8)), "headers": NPY},
        422, "in the shape (1, 8, 8, 3)"),
    "array-of-narrow-images": (
        encode(npy(np.zeros((2, 8, 3), np.uint8)), **NPY), 422, "is 8×3, but grey@1 takes 8×8; ask for resize"),
    "array-of-five-channels": (
        encode(npy(np.zeros((1, 8, 8, 5), np.uint8)), **NPY), 422, "expected (B, H, W) or (B, H, W, C) with C from 1"),
    "array-of-no-images": (encode(npy(np.zeros((0, 8, 8), np.uint8)), **NPY), 422, "one image at least"),
    "array-of-two-dimensions": (encode(npy(np.zeros((8, 8), np.uint8)), **NPY), 422, "expected (B, H, W)"),
    "tensor-of-another-name": (
        encode(safetensors.numpy.save({"x": np.zeros((1, 1, 8, 8), np.uint8)}), **SAFETENSORS),
        422, "a tensor with the unknown name x; send it with the name images"),
    "tensor-without-images": (
        encode(safetensors.numpy.save({"mean": np.zeros((1, 3), np.float32)}), **SAFETENSORS),
        422, "no tensor with the name images"),
    "latents-of-another-shape": (decode('{"latents": [[1, 2]]}'), 422, "A latent is 2, but grey@1 takes 3"),
    "latents-without-a-batch": (decode('{"latents": [1, 2, 3]}'), 422, "A latent is a single number"),
    "uneven-latents": (decode('{"latents": [[1, 2, 3], [1]]}'), 422, "nested unevenly"),
    "latents-of-words": (decode('{"latents": [["a", "b", "c"]]}'), 422, "not a number"),
    "latents-of-long-words": (decode(json.dumps({"latents": ["a" * 20_000, *["b"] * 10_000]})), 422, "not a number"),
    "latents-of-uneven-depth": (decode('{"latents": [[1, 2, 3], 4]}'), 422, "nested unevenly"),
    "latents-of-lists-in-numbers": (decode('{"latents": [[1, 2, [3]]]}'), 422, "not a number"),
    "latents-of-nothing": (decode('{"latents": [[]]}'), 422, "are empty"),
    "latents-of-many-dimensions": (
        decode('{"latents": ' + "[" * 100 + "1" + "]" * 100 + "}"), 422, "nested in 100 lists"),
    "latents-of-truths": (decode('{"latents": [[true, false, true]]}'), 422, "not a number"),
    "latents-of-huge-integers": (decode(f'{{"latents": [[{"9" * 400}, 1, 2]]}}'), 422, "too large"),
    "nan": (decode('{"latents": [[NaN, 0, 0]]}'), 422, "must be finite"),
    "infinity": (decode('{"latents": [[1e999, 0, 0]]}'), 422, "must be finite"),
    "nan-in-npy": (decode(npy(np.array([[np.nan, 0, 0]], np.float32)), NPY), 422, "must be finite"),
    "latents-far-below": (decode('{"latents": [[-1e30, 0, 0]]}'), 422, "within ±10000"),
    "latents-far-away-in-npy": (decode(npy(np.full((1, 3), 1e30, np.float32)), NPY), 422, "within ±10000"),
    "latents-far-away-in-safetensors": (
        decode(safetensors.numpy.save({"latents": np.full((1, 3), -1e30, np.float32)}), SAFETENSORS),
        422, "within ±10000"),
    "latents-far-away": (decode('{"latents": [[1e30, 0, 0]]}'), 422, "within ±10000"),
    "no-latents": (decode('{"latents": []}'), 422, "latents must have a length of at least 1"),
    "n-zero": (get("/v1/sample?n=0"), 422, "The query parameter n must be at least 1, not 0"),
    "n-negative": (get("/v1/sample?n=-1"), 422, "The query parameter n must"),
    "n-that-is-no-number": (get("/v1/sample?n=many"), 422, "n must be a whole number."),
    "seed-negative": (get("/v1/sample?seed=-1"), 422, "The query parameter seed must"),
    "seed-far-too-large": (get(f"/v1/sample?seed={2**64}"), 422, "The query parameter seed must"),
    "seed-with-underscores": (get("/v1/sample?seed=1_0"), 422, "parameter seed must be a whole number"),
    "n-with-underscores": (get("/v1/sample?n=1_0"), 422, "parameter n must be a whole number"),
    "steps-with-underscores": (get("/v1/traverse?steps=1_0"), 422, "parameter steps must be a whole number"),
    "dims-with-underscores": (get("/v1/traverse?dims=0_1,1"), 422, "parameter dims must be a whole number"),
    "temperature-with-underscores": (get("/v1/sample?temperature=0_1.5"), 422, "temperature must be a number"),
    "seed-too-large": (get(f"/v1/sample?seed={2**63}"), 422, "The query parameter seed must"),
    "temperature-too-high": (get("/v1/sample?temperature=2.1"), 422, "The query parameter temperature must"),
    "temperature-that-is-not-finite": (get("/v1/sample?temperature=nan"), 422, "The query parameter temperature must"),
    "unknown-parameter": (get("/v1/sample?sead=7"),
                          422, "is not known; did you mean seed? The known names are format, jpeg_quality, n, sampler"),
    "parameter-given-twice": (get("/v1/sample?seed=1&seed=4"), 422, "parameter seed is given 2 times; give it once"),
    "parameter-given-thrice": (get("/v1/traverse?dims=1&steps=2&steps=2&steps=2"), 422, "steps is given 3 times"),
    "dimension-that-is-no-number": (get("/v1/traverse?dims=1,x"), 422, "parameter dims.1 must be a whole number"),
    "dimension-negative": (get("/v1/traverse?dims=1&dims=-1"), 422, "dims.1 must be at least 0, not -1"),
    "dimensions-empty": (get("/v1/traverse?dims="), 422, "dims.0 must be a whole number"),
    "unknown-format": (get("/v1/sample?format=gif"), 422, "The query parameter format must"),
    "unknown-resize": (encode(picture(), "?resize=squeeze"), 422, "The query parameter resize must"),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
@pytest.mark.usefixtures("unharmed")
async def test_bad_input_gets_a_clear_answer(client: httpx.AsyncClient, case: str) -> None:
    """Status, value, expectation, remedy; a short problem without traceback; and the next request is answered."""
    request, status, message = CASES[case]

    response = await client.request(**request)
    problem = response.json()

    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    assert problem.keys() - {"index"} == {"type", "title", "status", "detail", "instance", "error", "request_id"}
    assert message in problem["detail"]
    assert problem["error"] == problem["detail"]
    assert problem["status"] == status
    assert problem["request_id"] == response.headers["x-request-id"]
    assert len(response.content) < 1024
    assert "Traceback" not in response.text
    assert (await client.get("/v1/sample")).status_code == 200


PAIR = {"latents": [[0, 0, 0], [1, 1, 1]]}
UNREASONABLE = {
    **{f"n-{n}": get(f"/v1/sample?n={n}") for n in (0, -1, 17, 65, 10**9, 2**64)},
    **{f"seed-{seed}": get(f"/v1/sample?seed={seed}") for seed in (-1, 2**63, 2**64, 10**30)},
    **{f"columns-{steps}": get(f"/v1/traverse?steps={steps}") for steps in (0, -1, 10**9, 2**64)},
    **{f"steps-{steps}": {"method": "POST", "url": f"/v1/interpolate?steps={steps}", "json": PAIR}
       for steps in (0, -1, 10**9, 2**64)},
    "importance-samples": encode(picture()) | {"url": f"/v1/score?importance_samples={10**9}"},
}  # fmt: skip


@pytest.fixture
def memory(service: object) -> Iterator[None]:
    """Trace the memory that Python takes during the test."""
    tracemalloc.start()
    yield
    tracemalloc.stop()


@pytest.mark.parametrize("case", UNREASONABLE)
@pytest.mark.usefixtures("unharmed", "memory")
async def test_number_beyond_reason_costs_nothing(client: httpx.AsyncClient, case: str) -> None:
    """The request causes no batch and takes less than a megabyte, however much it asks for."""
    before = await batches(client)
    taken = []
    for _ in range(3):
        tracemalloc.reset_peak()
        held = tracemalloc.get_traced_memory()[0]
        response = await client.request(**UNREASONABLE[case])
        taken.append(tracemalloc.get_traced_memory()[1] - held)
        assert response.status_code in {413, 422}

    assert min(taken) < 2**20  # the request takes the same each time (0.1 MB at most); other threads add at times
    assert await batches(client) == before


async def test_sensible_number_is_a_batch(client: httpx.AsyncClient) -> None:
    """This shows that the count of batches, which other tests expect not to grow, works."""
    before = await batches(client)
    await client.get("/v1/sample?n=2")

    assert await batches(client) == before + 1


async def batches(client: httpx.AsyncClient) -> float:
    """The number of batches that have been computed since the start."""
    metrics = (await client.get("/metrics")).text
    return sum(map(float, re.findall(r"(?m)^latentd_batch_images_count\{.*\} (\S+)$", metrics)))


@pytest.mark.parametrize("way", ["raw", "multipart", "base64"])
async def test_picture_is_checked_however_it_comes_in(client: httpx.AsyncClient, way: str) -> None:
    """A picture that claims too many pixels is refused raw, in multipart and in base64."""
    bomb = png_header(60_000, 60_000)
    requests = {
        "raw": encode(bomb),
        "multipart": {"method": "POST", "url": "/v1/encode", **multipart(bomb)},
        "base64": {"method": "POST", "url": "/v1/encode", "json": {"images": [base64_of(bomb)]}},
    }

    assert (await client.request(**requests[way])).status_code == 413


async def test_json_of_many_latents_is_read_if_requests_may_have_many(settings: Settings) -> None:
    """The error then names the wrong shape, not the number of values."""
    body = f'{{"latents": {many("[1,1]", 22_000)}}}'
    more = {"max_body_bytes": 1_000_000, "max_images_per_request": 22_000, "queue_images": 22_000}
    async with running(settings, **more) as (_, client):
        response = await client.post("/v1/decode", content=body, headers=JSON)

    assert response.status_code == 422
    assert "A latent is 2, but grey@1 takes 3" in response.json()["detail"]


async def test_body_without_a_length_is_bounded_too(client: httpx.AsyncClient) -> None:
    """Chunks are counted when they arrive."""

    async def endless() -> AsyncIterator[bytes]:
        for _ in range(1000):
            yield b"x" * 1000

    response = await client.post("/v1/encode", content=endless(), headers=PNG)

    assert response.status_code == 413
    assert "more than the limit of 100,000 bytes" in response.json()["detail"]


async def test_value_is_not_echoed(client: httpx.AsyncClient) -> None:
    """A secret that was sent in the wrong place is not sent back, and neither is a long value."""
    secret = "s3cret" * 1000

    responses = [
        await client.get("/v1/sample", params={"seed": secret}),
        await client.post("/v1/decode", json={"latents": secret}),
        await client.post("/v1/encode", json={"images": [secret]}),
    ]

    assert [response.status_code for response in responses] == [422, 422, 422]
    assert not any("s3cret" in response.text for response in responses)


async def test_names_come_back_cut_short(client: httpx.AsyncClient) -> None:
    """A misspelt name is shown, so that the client can correct it; a very long one is cut."""
    name = "sead" + "d" * 90_000

    responses = [
        await client.get("/v1/sample", params={name[:8_000]: 7}),
        await client.post("/v1/decode", json={"latents": [[0, 0, 0]], name: 7}),
        await client.get(f"/v1/models/{name[:8_000]}/sample"),
    ]

    assert [response.status_code for response in responses] == [422, 422, 404]
    assert all(len(response.content) < 1024 for response in responses)


async def test_latents_at_the_edge_of_what_is_allowed_are_decoded(client: httpx.AsyncClient) -> None:
    """The pixels of such latents are finite."""
    edge = npy(np.array([[1e4, -1e4, 1e4], [-1e4, 1e4, 0]], np.float32))
    response = await client.post("/v1/decode?format=npy", content=edge, headers=NPY)

    assert response.status_code == 200, response.text  # 500 not-finite otherwise
    assert np.load(io.BytesIO(response.content)).shape == (2, 8, 8, 1)


async def test_bug_is_a_500_with_the_id_under_which_the_log_says_more(
    client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The client sees no traceback. The log has it."""

    def burst(*_: object, **__: object) -> None:
        raise ZeroDivisionError("inside")

    monkeypatch.setattr(Session, "forward", burst)
    with structlog.testing.capture_logs([structlog.contextvars.merge_contextvars]) as lines:
        response = await client.get("/v1/sample", headers={"X-Request-Id": "mine"})

    assert response.status_code == 500
    assert response.json()["request_id"] == "mine"
    assert "inside" not in response.text
    assert [(line["event"], line["request_id"], line["exc_info"]) for line in lines] == [("bug", "mine", True)]


@pytest.mark.parametrize("error", [OSError(errno.EMFILE, "full"), OSError(errno.ENFILE, "full"), MemoryError()])
@pytest.mark.parametrize(("kind", "part", "url"), [(Session, "forward", "/v1/sample"), (Scrapes, "text", "/metrics")])
async def test_lack_of_descriptors_or_memory_is_503(
    client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch, error: Exception, kind: type, part: str, url: str
) -> None:
    """The lack passes, and another replica may answer. An endpoint and a route of FastAPI answer alike."""

    async def fail(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(kind, part, fail)
    response = await client.get(url)

    assert (response.status_code, response.headers["retry-after"]) == (503, "1")
    assert response.json()["type"] == "urn:latentd:problem:out-of-resources"
    assert "full" not in response.text


async def test_other_errors_of_the_system_are_bugs(client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch) -> None:
    """A missing file does not pass by itself."""

    async def fail(*_: object, **__: object) -> None:
        raise FileNotFoundError(errno.ENOENT, "missing")

    monkeypatch.setattr(Scrapes, "text", fail)

    assert (await client.get("/metrics")).status_code == 500


@pytest.mark.parametrize(("seconds", "told"), [(0, "1"), (0.2, "1"), (1.5, "2"), (10**6, "3600")])
def test_time_to_wait_is_a_sensible_whole_number(seconds: float, told: str) -> None:
    """The header has whole seconds, and a client should ask again within an hour."""
    error = errors.Starting()
    error.retry_after_s = seconds  # type: ignore[assignment]  # another error may compute it

    assert as_problem("1", error).headers["retry-after"] == told


async def test_method_that_is_not_allowed_lists_those_that_are(client: httpx.AsyncClient) -> None:
    """The header Allow has them."""
    assert (await client.get("/v1/encode")).headers["allow"] == "POST"


@pytest.mark.parametrize("method", ["DELETE", "OPTIONS"])
@pytest.mark.parametrize(
    "url",
    ["/", "/docs", "/openapi.json", "/livez", "/readyz", "/healthz", "/metrics", "/v1/models", "/v1/models/grey",
     "/v1/sample", "/v1/traverse?steps=2", "/v1/models/grey/sample", "/static-offline-docs/swagger-ui.css"],
)  # fmt: skip
async def test_allow_lists_get_and_head_wherever_get_works(client: httpx.AsyncClient, url: str, method: str) -> None:
    """HEAD is a separate route at some addresses."""
    refused = await client.request(method, url)

    assert (refused.status_code, refused.headers["allow"]) == (405, "GET, HEAD")
    assert [(await client.request(known, url)).status_code for known in ("GET", "HEAD")] == [200, 200]


async def test_route_of_fastapi_says_what_is_wrong_in_our_words(app: FastAPI, client: httpx.AsyncClient) -> None:
    """No route reads its query by FastAPI today; a future route may."""

    @app.get("/new")
    async def new(n: Annotated[int, Query(ge=1)]) -> int:
        return n

    answers = [await client.get(url) for url in ("/new?n=0", "/new?n=many", "/new")]

    assert [answer.status_code for answer in answers] == [422, 422, 422]
    assert [answer.json()["detail"] for answer in answers] == [
        "The query parameter n must be at least 1, not 0.",
        "The query parameter n must be a whole number.",
        "The query parameter n is required; add it.",
    ]


def test_every_error_has_a_status() -> None:
    """The table is complete: a client receives every error of the service as a problem document."""
    leaves = {error for error in vars(errors).values() if isinstance(error, type) and not error.__subclasses__()}

    assert {error for error in leaves if issubclass(error, errors.ServiceError)} <= STATUS.keys()
    assert {error.__name__ for error in STATUS if issubclass(error, StoreError)} == {"InvalidName", "ModelNotFound"}


def service_errors() -> list[type[errors.ServiceError]]:
    """Every kind of error of the service."""
    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type)]
    return [kind for kind in kinds if issubclass(kind, errors.ServiceError)]


@pytest.mark.parametrize("kind", service_errors())
def test_error_travels_between_processes(kind: type[errors.ServiceError]) -> None:
    """The error keeps its message and attributes, though its class makes the message of other arguments."""
    error = kind.__new__(kind, "The message.")
    vars(error).update(index=3, retry_after_s=7)

    again = pickle.loads(pickle.dumps(error))  # noqa: S301  # we have written it

    assert (type(again), str(again), vars(again)) == (kind, "The message.", {"index": 3, "retry_after_s": 7})
