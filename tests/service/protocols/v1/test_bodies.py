"""Bodies are taken whole or refused, in every form that an answer has, and give the same pixels in each form."""

import asyncio
import base64
import io
import random
from itertools import product
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import numpy as np
import pytest
import safetensors.numpy
import torch
from PIL import Image

from training.sources.arrays import read_arrays

from ....reliability.good_requests import image_bodies, latent_bodies, pictures
from ...wire import JSON, NPY, PNG, SAFETENSORS, base64_of, multipart, npy, ok, picture

pytestmark = pytest.mark.anyio

BODIES = {
    **{f"images-{kind.decode()}": ("/v1/encode", kind, body) for kind, body in image_bodies().items()},
    **{f"latents-{kind.decode()}": ("/v1/decode", kind, body) for kind, body in latent_bodies().items()},
    **{f"picture-{number}": ("/v1/encode", b"image/png", body) for number, body in enumerate(pictures())},
}


async def statuses(client: httpx.AsyncClient, url: str, kind: bytes, bodies: list[bytes]) -> list[int]:
    """The status of the answer to each body. Every error must be a problem in JSON."""
    headers = {"Content-Type": kind.decode()}
    answers = [await client.post(url, content=body, headers=headers) for body in bodies]
    assert {answer.headers["content-type"] for answer in answers if answer.status_code != 200} <= {
        "application/problem+json"
    }
    return [answer.status_code for answer in answers]


@pytest.mark.parametrize("name", BODIES)
@pytest.mark.usefixtures("unharmed")
async def test_body_that_is_cut_off_anywhere_is_refused(client: httpx.AsyncClient, name: str) -> None:
    """A part of a body is never taken for the whole body; a multipart body is whole at its closing boundary."""
    url, kind, body = BODIES[name]
    body = body.removesuffix(b"\r\n")
    expected = 422 if kind == b"image/png" else 400

    assert set(await statuses(client, url, kind, [body[:length] for length in range(len(body))])) == {expected}
    assert await statuses(client, url, kind, [body]) == [200]


@pytest.mark.parametrize("name", BODIES)
@pytest.mark.usefixtures("unharmed")
async def test_damaged_body_is_never_an_error_of_the_service(client: httpx.AsyncClient, name: str) -> None:
    """Bytes are changed, removed and doubled; the answer is a success or an error of the client."""
    url, kind, body = BODIES[name]
    chance = random.Random(name)  # noqa: S311  # it guards nothing
    damaged = []
    for _ in range(60):
        spoilt = bytearray(body)
        for _ in range(chance.choice((1, 2, 8))):
            at = chance.randrange(len(spoilt))
            spoilt[at : at + chance.choice((0, 1, 1, 4))] = chance.randbytes(chance.choice((0, 1, 1, 4)))
        damaged.append(bytes(spoilt))

    assert set(await statuses(client, url, kind, damaged)) <= {200, 400, 413, 415, 422}


ANSWERS_WITH_LATENTS = [
    ("encode", "json"), ("encode", "npy"), ("encode", "safetensors"), ("sample", "json"),
    ("sample", "safetensors"),
]  # fmt: skip
ANSWERS_WITH_IMAGES = [
    ("sample", "json"), ("sample", "npy"), ("sample", "safetensors"), ("decode", "json"), ("decode", "npy"),
    ("decode", "safetensors"), ("reconstruct", "json"), ("reconstruct", "npy"), ("reconstruct", "safetensors"),
]  # fmt: skip
ENDS = [[0.5, -1.0, 2.0], [0.0, 0.5, 0.0]]


async def answer(client: httpx.AsyncClient, model: str, operation: str, form: str) -> httpx.Response:
    """The answer of an operation with two images or latents, in one format."""
    path = f"/v1/models/{model}"
    if operation == "sample":
        return await ok(await client.get(f"{path}/sample?n=2&seed=7&format={form}"))
    if operation == "decode":
        latents = (await client.get(f"{path}/sample?n=2&seed=7&format=json")).json()["latents"]
        return await ok(await client.post(f"{path}/decode?format={form}", json={"latents": latents}))
    sent = multipart(picture(), picture(colour=200))
    return await ok(await client.post(f"{path}/{operation}?format={form}", **sent))


async def sent_on(client: httpx.AsyncClient, address: str, given: httpx.Response) -> httpx.Response:
    """The answer to a request whose body is another answer."""
    headers = {"Content-Type": given.headers["content-type"]}
    return await ok(await client.post(address, content=given.content, headers=headers))


@pytest.mark.parametrize("asked", ["decode", "interpolate"])
@pytest.mark.parametrize(("operation", "form"), ANSWERS_WITH_LATENTS)
async def test_latents_of_an_answer_are_decoded(
    client: httpx.AsyncClient, operation: str, form: str, asked: str
) -> None:
    """The images are the same as from the latents alone; other members of the answer are ignored."""
    for model in ("grey", "colour"):
        address = f"/v1/models/{model}/{asked}?format=npy"
        latents = (await answer(client, model, operation, "json")).json()["latents"]
        expected = await ok(await client.post(address, json={"latents": latents}))

        given = await sent_on(client, address, await answer(client, model, operation, form))

        assert given.content == expected.content


@pytest.mark.parametrize(("operation", "form"), ANSWERS_WITH_IMAGES)
async def test_images_of_an_answer_are_encoded(client: httpx.AsyncClient, operation: str, form: str) -> None:
    """The latents are the same as from the images as npy; other members of the answer are ignored."""
    for model in ("grey", "colour"):
        given, plain = [await answer(client, model, operation, wanted) for wanted in (form, "npy")]
        for asked in ("encode", "reconstruct?format=npy", "score?seed=7"):
            address = f"/v1/models/{model}/{asked}"
            assert (await sent_on(client, address, given)).content == (await sent_on(client, address, plain)).content


@pytest.mark.parametrize(
    ("operation", "form"), [pair for pair in ANSWERS_WITH_IMAGES if pair not in ANSWERS_WITH_LATENTS]
)
async def test_interpolation_is_between_the_images_of_an_answer(
    client: httpx.AsyncClient, operation: str, form: str
) -> None:
    """Each of these answers has images and no latents."""
    given, plain = [await answer(client, "colour", operation, wanted) for wanted in (form, "npy")]
    address = "/v1/models/colour/interpolate"

    assert (await sent_on(client, address, given)).content == (await sent_on(client, address, plain)).content


async def test_metadata_of_safetensors_is_ignored(client: httpx.AsyncClient) -> None:
    """The images are the same with the metadata and without it."""
    latents = {"latents": np.array(ENDS, np.float32)}
    plain, described = [
        await client.post("/v1/decode", content=safetensors.numpy.save(latents, about), headers=SAFETENSORS)
        for about in (None, {"format": "pt", "made": "by hand"})
    ]

    assert (await ok(described)).content == plain.content


async def test_largest_answer_can_be_sent_back(client: httpx.AsyncClient) -> None:
    """A request may have sixteen images; the JSON of sixteen images is not too large for the next request."""
    given = await ok(await client.get("/v1/sample?n=16&format=json"))

    await sent_on(client, "/v1/decode", given)
    await sent_on(client, "/v1/encode", given)


def shaded(mode: str) -> Image.Image:
    """A picture of 12×6 whose channels differ everywhere."""
    channels = len(Image.new(mode, (1, 1)).getbands())
    values = np.random.default_rng(0).integers(0, 256, (6, 12, channels), dtype=np.uint8)
    return Image.fromarray(values[:, :, 0] if channels == 1 else values)


def saved(image: Image.Image) -> bytes:
    """The bytes of the picture as PNG."""
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


def array_bodies(values: np.ndarray) -> list[dict[str, Any]]:
    """Images (B, H, W, C) as npy and as safetensors, with 8 bits and with the same values as floats."""
    arrays = [values, values.astype(np.float32) / 255, torch.from_numpy(values).div(255).numpy()]
    bodies = []
    for array in arrays:
        first = np.ascontiguousarray(array.transpose(0, 3, 1, 2))
        bodies.append({"content": npy(array), "headers": NPY})
        bodies.append({"content": safetensors.numpy.save({"images": first}), "headers": SAFETENSORS})
    return bodies


@pytest.mark.parametrize("model", ["grey", "colour"])
@pytest.mark.parametrize("mode", ["L", "LA", "RGB", "RGBA"])
async def test_array_is_taken_as_the_same_picture(client: httpx.AsyncClient, model: str, mode: str) -> None:
    """Resizing, conversion to grey and the black behind transparent pixels are the same."""
    image = shaded(mode)
    values = np.stack([np.asarray(image).reshape(6, 12, -1)] * 2)

    for resize, body in product(("contain", "cover", "stretch"), array_bodies(values)):
        address = f"/v1/models/{model}/encode?resize={resize}"
        expected = await ok(await client.post(address, **multipart(saved(image), saved(image))))
        assert (await ok(await client.post(address, **body))).json() == expected.json()


@pytest.mark.parametrize("resize", ["contain", "cover", "stretch"])
@pytest.mark.parametrize("size", [(1, 57), (57, 1)])
async def test_very_narrow_image_keeps_a_pixel_of_its_width(
    client: httpx.AsyncClient, resize: str, size: tuple[int, int]
) -> None:
    """A picture and an array of it have the same latents, which are not the latents of black."""
    address, narrow = f"/v1/encode?resize={resize}", np.full((1, *size), 255, np.uint8)
    sent = saved(Image.fromarray(narrow[0]))
    of_picture = await ok(await client.post(address, content=sent, headers=PNG))
    of_array = await ok(await client.post(address, content=npy(narrow), headers=NPY))
    black = await ok(await client.post("/v1/encode", content=picture(colour=0), headers=PNG))

    assert of_picture.json() == of_array.json()
    assert of_picture.json()["latents"] != black.json()["latents"]


async def test_float_images_a_rounding_beyond_their_range_are_taken(client: httpx.AsyncClient) -> None:
    """As in training, a scaled or resized image may end a little above 1; such a pixel is white."""
    white = np.full((1, 8, 8), 255, np.uint8)
    whiter = np.nextafter(np.ones((1, 8, 8), np.float32), np.float32(2))
    plain, beyond = [
        await ok(await client.post("/v1/encode", content=npy(array), headers=NPY)) for array in (white, whiter)
    ]

    assert beyond.json() == plain.json()


async def test_half_precision_images_are_taken(client: httpx.AsyncClient) -> None:
    """Half precision holds black and white exactly, and 8-bit values closely enough."""
    values = np.random.default_rng(0).integers(0, 256, (2, 8, 8), dtype=np.uint8)
    halves = (values / 255).astype(np.float16)
    plain, half = [await client.post("/v1/encode", content=npy(array), headers=NPY) for array in (values, halves)]

    assert (await ok(half)).json() == plain.json()


WIDE = np.random.default_rng(0).integers(0, 65_536, (2, 8, 8), dtype=np.uint16)
VALUES = {
    "bool": WIDE > 30_000, "uint16": WIDE, "big-endian uint16": WIDE.astype(">u2"), "float64": WIDE / 65_535,
    "float16": (WIDE / 65_535).astype(np.float16),
}  # fmt: skip


@pytest.mark.parametrize("asked", ["encode", "interpolate"])
@pytest.mark.parametrize("name", VALUES)
async def test_array_has_the_same_pixels_in_the_service_as_in_training(
    client: httpx.AsyncClient, tmp_path: Path, name: str, asked: str
) -> None:
    """The answer is the answer to the 8-bit pixels that training reads from the same file."""
    path, values = tmp_path / "array.npy", VALUES[name]
    np.save(path, values)
    pixels = read_arrays(path, (1, 8, 8)).train[:, 0].numpy()
    native = values.astype(values.dtype.newbyteorder("="))[:, None]
    bodies: list[dict[str, Any]] = [
        {"content": path.read_bytes(), "headers": NPY},
        {"content": safetensors.numpy.save({"images": native}), "headers": SAFETENSORS},
    ]
    expected = await ok(await client.post(f"/v1/{asked}", content=npy(pixels), headers=NPY))

    for body in bodies:
        assert (await ok(await client.post(f"/v1/{asked}", **body))).content == expected.content


async def test_interpolation_takes_float_images_and_tells_them_from_latents(client: httpx.AsyncClient) -> None:
    """The shape tells them apart where the array has no name."""
    images = np.random.default_rng(0).integers(0, 256, (2, 8, 8), dtype=np.uint8)
    plain, floats = [
        await client.post("/v1/interpolate", content=npy(array), headers=NPY)
        for array in (images, (images / 255).astype(np.float32))
    ]
    latents, named = [
        await client.post("/v1/interpolate", **sent)
        for sent in ({"content": npy(np.array(ENDS, np.float32)), "headers": NPY}, {"json": {"latents": ENDS}})
    ]

    assert (await ok(floats)).content == plain.content
    assert (await ok(latents)).content == named.content


PNG_BASE64 = base64_of(saved(Image.effect_noise((8, 8), 90)) + b"\xfb\xff\xbe")  # has + and / in it
BASE64 = {
    "in lines": base64.encodebytes(base64.b64decode(PNG_BASE64)).decode(),
    "in lines of Windows": PNG_BASE64[:40] + "\r\n" + PNG_BASE64[40:],
    "unpadded": PNG_BASE64.rstrip("="),
    "URL-safe": PNG_BASE64.replace("+", "-").replace("/", "_"),
    "as data, with escapes": "Data:image/png;BASE64," + quote(PNG_BASE64, safe=""),
    "URL-safe and unpadded, as data": "data:image/png;base64," + PNG_BASE64.translate({43: 45, 47: 95}).rstrip("="),
}


@pytest.mark.parametrize("name", BASE64)
async def test_base64_is_taken_in_every_usual_form(client: httpx.AsyncClient, name: str) -> None:
    """Each form gives the same picture as the strict form."""
    plain, other = [
        await ok(await client.post("/v1/encode", json={"images": [text]})) for text in (PNG_BASE64, BASE64[name])
    ]

    assert BASE64[name] != PNG_BASE64
    assert other.json() == plain.json()


async def test_byte_order_mark_before_json_is_ignored(client: httpx.AsyncClient) -> None:
    """Editors and shells may write this mark at the start of a file."""
    body = b'\xef\xbb\xbf{"latents": [[0, 0, 0]]}'

    await ok(await client.post("/v1/decode", content=body, headers=JSON))


@pytest.mark.parametrize("kind", ["image/png", "IMAGE/PNG", "application/octet-stream"])
async def test_part_without_a_file_name_is_a_picture_by_its_type(client: httpx.AsyncClient, kind: str) -> None:
    """The picture keeps its place among the others."""
    shades = [picture(colour=value) for value in (0, 128, 255)]
    mixed: dict[str, tuple[str | None, bytes, str]] = {
        "a": ("a.png", shades[0], "image/png"),
        "b": (None, shades[1], kind),
        "c": ("c.png", shades[2], "image/png"),
    }
    expected = await ok(await client.post("/v1/encode", **multipart(*shades)))

    assert (await ok(await client.post("/v1/encode", files=mixed))).json() == expected.json()


@pytest.mark.parametrize("preamble", [b"", b"\r\n", b"This is a form.\r\n", b"--\r\n--b\r\n-\r\n"])
async def test_text_before_the_first_boundary_is_ignored(client: httpx.AsyncClient, preamble: bytes) -> None:
    """RFC 2046, section 5.1.1, allows a preamble."""
    part = b'--boundary\r\nContent-Disposition: form-data; name="f"; filename="f"\r\n\r\n%b\r\n' % picture()
    body, headers = part * 2 + b"--boundary--\r\n", {"Content-Type": "multipart/form-data; boundary=boundary"}
    expected = await ok(await client.post("/v1/encode", **multipart(picture(), picture())))

    answered = await ok(await client.post("/v1/encode", content=preamble + body, headers=headers))

    assert answered.json() == expected.json()


GOOD, BAD = picture(), b"no picture"
WITH_NAN = np.zeros((3, 8, 8), np.float32)
WITH_NAN[1, 2, 3] = np.nan
LATENTS_WITH_NAN = np.zeros((3, 3), np.float32)
LATENTS_WITH_NAN[1, 2] = np.inf
AT_FAULT: dict[str, tuple[str, dict[str, Any], int | None]] = {
    "alone": ("encode", {"content": BAD, "headers": PNG}, 0),
    "part": ("encode", multipart(GOOD, BAD, GOOD), 1),
    "part of another format": ("encode", multipart(GOOD, picture(kind="GIF"), GOOD), 1),
    "part that is cut off": ("encode", multipart(GOOD, GOOD, GOOD[:-30]), 2),
    "part of values that mean nothing": (
        "encode", multipart(GOOD, saved(Image.fromarray(np.full((8, 8), 9, np.uint16))), GOOD), 1),
    "part of another size": ("encode", multipart(GOOD, picture((9, 8)), GOOD), 1),
    "part of too many pixels": ("encode?resize=cover", multipart(GOOD, picture((101, 100)), GOOD), 1),
    "picture in JSON": ("encode", {"json": {"images": [base64_of(content) for content in (GOOD, BAD, GOOD)]}}, 1),
    "no base64": ("encode", {"json": {"images": [base64_of(GOOD), base64_of(GOOD), "!"]}}, 2),
    "no text": ("encode", {"json": {"images": [base64_of(GOOD), 7]}}, 1),
    "address": ("encode", {"json": {"images": [base64_of(GOOD), "http://127.0.0.1/x.png"]}}, 1),
    "array": ("encode", {"content": npy(WITH_NAN), "headers": NPY}, 1),
    "tensor": (
        "encode", {"content": safetensors.numpy.save({"images": WITH_NAN[:, None]}), "headers": SAFETENSORS}, 1),
    "array of latents": ("decode", {"content": npy(LATENTS_WITH_NAN), "headers": NPY}, 1),
    "latents in JSON": ("decode", {"json": {"latents": [[0, 0, 0], [0, 0, 10_001]]}}, 1),
    "pair": ("interpolate", {"json": {"images": [base64_of(GOOD), base64_of(BAD)]}}, 1),
    "all pictures together": ("encode?resize=cover", multipart(*[picture((100, 90))] * 3), None),
    "no images": ("encode", {"json": {"images": []}}, None),
}  # fmt: skip


@pytest.mark.parametrize("name", AT_FAULT)
async def test_problem_names_the_index_of_the_image_at_fault(client: httpx.AsyncClient, name: str) -> None:
    """The index counts from 0, so that a program can leave the image out; without one image at fault it is absent."""
    operation, sent, index = AT_FAULT[name]
    response = await client.post(f"/v1/{operation}", **sent)

    assert response.status_code in {413, 415, 422}
    assert response.json().get("index") == index


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, -0.5, 1.5, 255])
async def test_float_images_beyond_their_range_are_refused(client: httpx.AsyncClient, value: float) -> None:
    """The message has the value and the range."""
    images = np.zeros((2, 8, 8), np.float32)
    images[1, 0, 0] = value
    response = await client.post("/v1/encode", content=npy(images), headers=NPY)

    assert response.status_code == 422
    assert response.json()["detail"].startswith(f"An image holds {value:g}; float images are in [0, 1]")


async def test_requests_beside_each_other_keep_their_own_index(client: httpx.AsyncClient) -> None:
    """The index of one request does not appear in the problem of another."""
    answers = await asyncio.gather(
        *(client.post("/v1/encode", **multipart(*[GOOD] * count, BAD)) for count in range(5))
    )

    assert [answer.json()["index"] for answer in answers] == list(range(5))
