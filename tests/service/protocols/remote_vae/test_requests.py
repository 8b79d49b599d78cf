"""Requests as SD.Next and ComfyUI-HFRemoteVae send them, and requests that nothing good sends.

Their shapes are taken from the clients' own source, read in November 2026: `modules/vae/sd_vae_remote.py` of SD.Next,
and `nodes.py` of ComfyUI-HFRemoteVae.
"""

from __future__ import annotations

import io
import json
import re
import socket
import time
from collections.abc import Iterator
from typing import Any

import httpx
import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from ...wire import png_header, saved
from .conftest import FACTOR, SHIFT, Live, decoded, draw_latents, draw_pixels, encoded

BINARY = {"Content-Type": "tensor/binary"}
PROMPT_S = 0.5  # a refusal takes milliseconds; other programs may keep the machine busy


@pytest.fixture
def client(live: Live) -> Iterator[httpx.Client]:
    """A client that adds nothing: as `requests`, it sends no Content-Type that is not given."""
    with httpx.Client(base_url=live.url, timeout=30) as client:
        yield client


def query_of(tensor: Tensor, **more: Any) -> list[tuple[str, Any]]:
    """The query of a tensor: the key `shape` once for each side."""
    pairs = [("shape", side) for side in tensor.shape] + [("dtype", str(tensor.dtype).removeprefix("torch."))]
    return [*pairs, *more.items()]


def post(client: httpx.Client, tensor: Tensor, path: str = "/remote/decode", **more: Any) -> httpx.Response:
    """The answer to a tensor."""
    headers = {**BINARY, "Accept": more.pop("accept", "tensor/binary")}
    content = tensor.contiguous().view(torch.uint8).numpy().tobytes()
    return client.post(path, content=content, params=query_of(tensor, **more), headers=headers)


def tensor_in(response: httpx.Response) -> Tensor:
    """The tensor of an answer, as every client reads it."""
    assert response.status_code == 200, response.text
    dtype = getattr(torch, response.headers["dtype"])
    return torch.frombuffer(bytearray(response.content), dtype=dtype).reshape(json.loads(response.headers["shape"]))


def check_refused(response: httpx.Response, status: int, reason: str) -> None:
    """The refusal is JSON with an `error`, which has the reason, and comes at once."""
    assert response.status_code == status, response.text
    assert reason in response.json()["error"]
    assert response.elapsed.total_seconds() < PROMPT_S


@pytest.mark.parametrize("path", ["/remote/decode", "/models/flux/remote/decode", "/models/flux@1/remote/decode"])
@pytest.mark.parametrize(("kind", "media_type"), [("jpg", "image/jpeg"), ("png", "image/png")])
def test_sdnext_gets_pictures_of_flux_latents_without_a_batch(
    client: httpx.Client, path: str, kind: str, media_type: str
) -> None:
    """(16, h, w) in float16 with the size of the image, and without partial_postprocess."""
    latents = ((draw_latents()[0] - SHIFT) * FACTOR).half()
    response = post(
        client, latents, path, accept=media_type, input_tensor_type="binary", image_format=kind, output_type="pil",
        width=64, height=48, scaling_factor=FACTOR, shift_factor=SHIFT,
    )  # fmt: skip

    assert response.headers["content-type"] == media_type
    assert response.headers["x-model"] == "flux@1"
    assert Image.open(io.BytesIO(response.content)).size == (64, 48)


def test_sdnext_gets_raw_tensors(live: Live, client: httpx.Client) -> None:
    """SD.Next joins the answers along the batch, so each has four dimensions."""
    latents = draw_latents()
    response = post(
        client, ((latents[0] - SHIFT) * FACTOR).half(), input_tensor_type="binary", partial_postprocess=False,
        output_type="pt", output_tensor_type="binary", width=64, height=48, scaling_factor=FACTOR, shift_factor=SHIFT,
    )  # fmt: skip

    images = tensor_in(response)
    assert images.dtype == torch.float16
    torch.testing.assert_close(images.float(), decoded(live.flux, latents) * 2 - 1, rtol=0, atol=1e-2)


def test_older_sdnext_asks_for_the_scaling_of_the_card(live: Live, client: httpx.Client) -> None:
    """With the axis of the batch, and do_scaling without factors."""
    latents = draw_latents(channels=4)
    response = post(
        client, (latents * 0.18215).half(), "/models/sd/remote/decode", accept="image/png", do_scaling=True,
        input_tensor_type="binary", image_format="png", output_type="pil",
    )  # fmt: skip

    picture = np.asarray(Image.open(io.BytesIO(response.content)), np.float32)
    expected = decoded(live.sd, latents)[0].permute(1, 2, 0).mul(255).numpy()
    assert np.abs(picture - expected).max() < 3


@pytest.mark.parametrize("count", [1, 3])
def test_comfyui_gets_tensors_of_unscaled_latents(live: Live, client: httpx.Client, count: int) -> None:
    """A batch in float32 with the size of the image, and the text False for do_scaling."""
    latents = draw_latents(count)
    response = post(client, latents, do_scaling=False, output_type="pt", partial_postprocess=False, height=48, width=64)

    torch.testing.assert_close(tensor_in(response), decoded(live.flux, latents) * 2 - 1, rtol=0, atol=1e-5)


def test_unknown_keys_are_ignored_even_if_they_are_repeated(client: httpx.Client) -> None:
    """A client of tomorrow may send keys of tomorrow."""
    response = post(client, draw_latents(), output_type="pt", return_type="pil", processor="None")
    url = response.url.copy_add_param("tomorrow", "1").copy_add_param("tomorrow", "2")
    again = client.post(url, content=draw_latents().numpy().tobytes())

    assert torch.equal(tensor_in(again), tensor_in(response))


@pytest.mark.parametrize("accept", ["tensor/binary", "application/json, tensor/binary;q=0.5"])
def test_floats_of_pictures_are_within_0_and_1(live: Live, client: httpx.Client, accept: str) -> None:
    """diffusers asks for them with a processor, and only Accept tells this request from one for a picture."""
    images = tensor_in(post(client, draw_latents(2), accept=accept, output_type="pil"))

    torch.testing.assert_close(images, decoded(live.flux, draw_latents(2)), rtol=0, atol=1e-5)


@pytest.mark.parametrize("options", [{"partial_postprocess": True, "output_type": "pt"}, {"output_type": "pil"}])
def test_grey_images_have_three_channels_where_clients_make_pictures(
    client: httpx.Client, options: dict[str, Any]
) -> None:
    """Pillow takes no array (H, W, 1). A model of one size with latents in a row is served as well."""
    images = tensor_in(post(client, torch.zeros(2, 3), "/models/grey/remote/decode", **options))

    assert sorted(images.shape) == [2, 3, 8, 8]


def test_large_picture_is_written_in_a_process(live: Live, client: httpx.Client) -> None:
    """And it is the same as a small one would be."""
    latents = draw_latents(1, 64, 64)
    response = post(client, latents, accept="image/png", image_format="png")

    picture = np.asarray(Image.open(io.BytesIO(response.content)), np.float32)
    expected = decoded(live.flux, latents)[0].permute(1, 2, 0).mul(255).numpy()
    assert np.abs(picture - expected).max() < 1


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP"])
@pytest.mark.parametrize("headers", [{}, {"Content-Type": "image/bmp"}, {"Content-Type": "tensor/binary"}], ids=str)
def test_picture_is_known_by_its_bytes(live: Live, client: httpx.Client, kind: str, headers: dict[str, str]) -> None:
    """diffusers sends no Content-Type, and another client may send any."""
    options = {"WEBP": {"lossless": True}}.get(kind, {})
    picture = saved(Image.radial_gradient("L").resize((64, 48)).convert("RGB"), kind, **options)
    pixels = torch.from_numpy(np.array(Image.open(io.BytesIO(picture)).convert("RGB"))).permute(2, 0, 1)[None]
    response = client.post("/remote/encode", content=picture, headers=headers)

    torch.testing.assert_close(tensor_in(response), encoded(live.flux, pixels), rtol=0, atol=1e-5)


def test_large_picture_is_read_in_a_process(live: Live, client: httpx.Client) -> None:
    """The latents are the ones that the network computes."""
    pixels = draw_pixels(1, 256, 320)
    response = client.post("/remote/encode", content=saved(Image.fromarray(pixels[0].permute(1, 2, 0).numpy()), "PNG"))

    torch.testing.assert_close(tensor_in(response), encoded(live.flux, pixels), rtol=0, atol=1e-5)


def test_answers_tell_how_images_were_computed(client: httpx.Client) -> None:
    """The precision of each direction, and the size of an image before it was padded."""
    picture = saved(Image.fromarray(draw_pixels(1, 50, 70)[0].permute(1, 2, 0).numpy()), "PNG")
    encoding = client.post("/remote/encode?fit=pad", content=picture).headers
    fitting = client.post("/remote/encode?resize=cover", content=picture).headers
    image = post(client, draw_latents(), accept="image/png").headers

    assert encoding["X-Original-Size"] == "3x50x70"
    assert "X-Original-Size" not in fitting
    assert encoding["X-Precision"] == image["X-Precision"] == "float32"


@pytest.mark.parametrize("query", ["resize=stretch", "fit=pad"])
def test_tensor_of_other_sides_is_fitted_as_a_picture_is(client: httpx.Client, query: str) -> None:
    """The same latents come from the same image."""
    pixels = draw_pixels(1, 50, 70)
    picture = saved(Image.fromarray(pixels[0].permute(1, 2, 0).numpy()), "PNG")
    tensor = pixels[0].double().div(127.5).sub(1).float()
    both = [
        tensor_in(client.post(f"/remote/encode?{query}", content=picture)),
        tensor_in(post(client, tensor, "/remote/encode", **dict([query.split("=")]))),
    ]

    assert torch.equal(*both)


def test_encode_with_the_scaling_of_the_card(live: Live, client: httpx.Client) -> None:
    """do_scaling means the same as for decode."""
    pixels = draw_pixels()
    images = pixels.double().div(127.5).sub(1).float()
    latents = tensor_in(post(client, images, "/remote/encode", do_scaling=True))

    torch.testing.assert_close(latents, (encoded(live.flux, pixels) - SHIFT) * FACTOR, rtol=0, atol=1e-5)


@pytest.mark.parametrize("options", [{"output_type": "pt"}, {"accept": "image/png"}])
def test_answer_tells_its_model_and_each_stage(client: httpx.Client, options: dict[str, Any]) -> None:
    """As the answers of the other operations do."""
    headers = post(client, draw_latents(), **options).headers

    assert headers["x-model"] == "flux@1"
    assert re.findall(r"(\w+);dur=", headers["server-timing"]) == ["read", "queue", "compute", "write"]


TOO_MANY = 2**63
DECODE: dict[str, tuple[dict[str, Any], int, str]] = {
    "no-shape": ({"shape": []}, 422, "shape is missing"),
    "no-dtype": ({"dtype": []}, 422, "dtype is missing"),
    "integers": ({"shape": [1, 16, 6, 8], "dtype": "int8"}, 422, "dtype"),
    "zero": ({"shape": [0, 16, 6, 8]}, 422, "shape"),
    "negative": ({"shape": [1, 16, -6, 8]}, 422, "shape"),
    "text": ({"shape": "1,16,6,8"}, 422, "shape"),
    "beyond-64-bits": ({"shape": [TOO_MANY, 16, 6, 8]}, 422, "shape"),
    "digits": ({"shape": ["9" * 4000]}, 422, "shape"),
    "astronomic": ({"shape": [2**31 - 1, 16, 2**31 - 1, 2**31 - 1]}, 422, "of images up to 16384"),
    "many-latents": ({"shape": [2**31 - 1, 16, 6, 8], "output_type": "pt"}, 413, "images, the limit is 4"),
    "many-pixels": ({"shape": [1, 16, 2000, 2000]}, 413, "pixels"),
    "many-dimensions": ({"shape": [1] * 500}, 422, "shape"),
    "video": ({"shape": [1, 16, 1, 6, 8], "output_type": "pt"}, 422, "takes 16×any×any"),
    "other-channels": ({"shape": [1, 4, 6, 8]}, 422, "A latent is 4×6×8, but flux@1 takes 16×any×any"),
    "one-dimension": ({"shape": [16]}, 422, "A latent is"),
    "packed-without-a-size": ({"shape": [1, 12, 64]}, 422, "but an image of 0×0 has 0; send the height and width"),
    "packed-of-another-size": (
        {"shape": [1, 12, 64], "height": 64, "width": 64}, 422,
        "have 12 patches of 16×16 pixels, but an image of 64×64 has 16"),
    "packed-as-many-as-channels": (
        {"shape": [16, 12, 64], "height": 64, "width": 64}, 422,
        "have 12 patches of 16×16 pixels, but an image of 64×64 has 16"),
    "packed-of-endless-size": ({"shape": [1, 12, 64], "height": TOO_MANY, "width": 64}, 422, "height"),
    "short": ({"shape": [1, 16, 6, 9]}, 400, "3,072 bytes, but 1×16×6×9 values of float32 have 3,456"),
    "long": ({"shape": [1, 16, 6, 7]}, 400, "but 1×16×6×7 values of float32 have 2,688"),
    "other-type": ({"dtype": "float16"}, 400, "values of float16 have 1,536"),
    "video-answer": ({"output_type": "mp4"}, 422, "latentd serves images"),
    "other-answer": ({"output_type": "latent"}, 422, "output_type"),
    "other-picture": ({"image_format": "gif"}, 422, "image_format"),
    "batch": ({"shape": [2, 16, 6, 4]}, 422, "The 2 latents cannot be answered as one jpg"),
    "zero-scaling": ({"scaling_factor": 0}, 422, "scaling_factor"),
    "endless-scaling": ({"scaling_factor": "inf"}, 422, "scaling_factor"),
    "no-shift": ({"shift_factor": "nan"}, 422, "shift_factor"),
    "tiny-scaling": ({"scaling_factor": 1e-300}, 422, "scaling_factor must be at least 0.0001"),
    "tiniest-scaling": ({"scaling_factor": 5e-324}, 422, "scaling_factor must be at least 0.0001"),
}  # fmt: skip


def test_latents_without_a_batch_may_come_with_the_size_that_was_wished(client: httpx.Client) -> None:
    """SD.Next sends latents (D, h, w) and the size of its request, which need not be a multiple of the downscale."""
    latents = torch.zeros(16, 6, 64)
    query: dict[str, Any] = {
        "shape": [*latents.shape],
        "dtype": "float32",
        "height": 55,
        "width": 519,
        "output_type": "pt",
    }

    response = client.post("/remote/decode", params=query, content=latents.numpy().tobytes())

    assert response.status_code == 200, response.text


@pytest.mark.parametrize("case", DECODE)
def test_wrong_decode_is_refused_at_once(client: httpx.Client, case: str) -> None:
    """The body has 3,072 bytes; the query says something else, or nothing that can be done."""
    changed, status, reason = DECODE[case]
    query: dict[str, Any] = {"shape": [1, 16, 6, 8], "dtype": "float32", "scaling_factor": FACTOR} | changed
    response = client.post(
        "/remote/decode", params=query, content=draw_latents().numpy().tobytes(), headers={"Accept": "image/jpeg"}
    )

    check_refused(response, status, reason)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -20_000.0])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_latents_that_no_image_has_are_refused(client: httpx.Client, value: float, dtype: torch.dtype) -> None:
    """The error names the latent at fault."""
    latents = draw_latents(2).to(dtype)
    latents[1, 3, 2, 1] = value
    response = post(client, latents, output_type="pt")

    check_refused(response, 422, "latents must be finite and within ±10000")
    assert response.json()["index"] == 1


def test_double_beyond_float32_is_refused(client: httpx.Client) -> None:
    """1e300 would be infinite as float32."""
    check_refused(post(client, torch.full((1, 16, 6, 8), 1e300, dtype=torch.float64)), 422, "latents must be finite")


ENCODE: dict[str, tuple[dict[str, Any], bytes, int, str]] = {
    "nothing": ({}, b"", 422, "it is empty"),
    "text": ({}, b"no picture", 422, "it is not a PNG, JPEG or WebP file"),
    "cut-off": ({}, saved(Image.new("RGB", (64, 48)), "PNG")[:60], 422, "The picture cannot be read"),
    "bomb": ({}, png_header(60_000, 60_000), 413, "pixels"),
    "other-sides": ({}, saved(Image.new("RGB", (70, 50)), "PNG"), 422, "multiples of 8; ask for resize=contain"),
    "tensor-of-other-sides": ({"shape": [3, 2, 2]}, bytes(48), 422, "multiples of 8; ask for resize=contain"),
    "tensor-of-grey": ({"shape": [1, 1, 8, 8]}, bytes(256), 422, "but flux@1 takes any×3×any×any; send images (B, C"),
    "tensor-of-a-row": ({"shape": [192]}, bytes(768), 422, "The tensor of images is 192, but"),
    "tensor-of-a-video": ({"shape": [1, 3, 1, 8, 8]}, bytes(768), 422, "The tensor of images is 1×3×1×8×8, but"),
    "tensor-of-many": ({"shape": [2**31 - 1, 3, 8, 8]}, bytes(768), 413, "pixels"),
    "tensor-astronomic": ({"shape": [1, 3, 2**31 - 1, 2**31 - 1]}, bytes(768), 413, "pixels"),
    "tensor-that-is-short": ({"shape": [1, 3, 8, 8]}, bytes(767), 400, "it has 767 bytes, but 1×3×8×8"),
    "tensor-of-five": ({"shape": [5, 3, 8, 8]}, bytes(3840), 413, "5 images, the limit is 4"),
    "tensor-of-white-255": (
        {"shape": [1, 3, 8, 8]}, np.full(192, 255, np.float32).tobytes(), 422,
        "An image holds 255; send images in [-1, 1]"),
    "tensor-of-nan": ({"shape": [1, 3, 8, 8]}, np.full(192, np.nan, np.float32).tobytes(), 422, "An image holds nan"),
    "latents-beyond-the-type": (
        {"shape": [1, 3, 8, 8], "dtype": "float16", "scaling_factor": 1e4, "shift_factor": 1e4}, bytes(384), 422,
        "The scaled latents are too large for float16"),
}  # fmt: skip


@pytest.mark.parametrize("case", ENCODE)
def test_wrong_encode_is_refused_at_once(client: httpx.Client, case: str) -> None:
    """A picture, or a tensor in float32 that cannot be encoded."""
    query, content, status, reason = ENCODE[case]
    response = client.post("/remote/encode", params={"dtype": "float32"} | query, content=content)

    check_refused(response, status, reason)


LARGE = "dtype=float32&output_type=pt&shape=1&shape=16&shape=100&shape=100"


@pytest.mark.parametrize(
    ("method", "path", "headers", "size", "status"),
    [
        ("POST", f"remote/decode?{LARGE}", {}, 300_001, 413),
        ("POST", "remote/encode", {"Content-Encoding": "gzip"}, 10, 415),
        ("POST", f"models/none/remote/decode?{LARGE}", {}, 0, 404),
        ("POST", f"remote/decode/?{LARGE}", {}, 0, 404),
        ("GET", "remote/decode", {}, 0, 405),
    ],
)
def test_every_other_error_is_json_too(
    client: httpx.Client, method: str, path: str, headers: dict[str, str], size: int, status: int
) -> None:
    """diffusers reads the body of every answer that is not a success as JSON."""
    check_refused(client.request(method, path, content=bytes(size), headers=headers), status, "")


@pytest.mark.parametrize("key", ["", "user:another@", "a-key:another@", "a-ke@"])
def test_addresses_need_the_key(live: Live, key: str) -> None:
    """As password or as user, but not as user beside another password."""
    response = httpx.post(live.endpoint("decode").replace("user:a-key@", key))

    check_refused(response, 401, "no valid key")


def test_refusals_do_not_wait_for_the_body(live: Live) -> None:
    """A query that says too much is refused while the body has not been sent."""
    begun = time.monotonic()
    with socket.create_connection(live.process.address, timeout=10) as connection:
        connection.sendall(
            b"POST /v1/remote/decode?shape=99&shape=16&shape=64&shape=64&dtype=float32&output_type=pt HTTP/1.1\r\n"
            b"Host: 127.0.0.1\r\nAuthorization: Bearer a-key\r\nContent-Length: 200000\r\n\r\n"
        )
        assert connection.recv(100).startswith(b"HTTP/1.1 413 ")
    assert time.monotonic() - begun < PROMPT_S
