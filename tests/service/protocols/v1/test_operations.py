"""Encode, decode, sample and reconstruct over HTTP: the numbers are the same in every format, in and out."""

import asyncio
import base64
import io
import json
import secrets
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import safetensors.numpy
import safetensors.torch
import structlog
import torch
from fastapi import FastAPI
from PIL import Image

from model_store import Store
from service.compute import batch_plan
from service.settings import Settings
from service.telemetry import logs

from ....conftest import GREY, make_model
from ...conftest import running
from ...wire import JSON, NPY, PNG, SAFETENSORS, base64_of, multipart, npy, ok, opened, picture, read_npy

pytestmark = pytest.mark.anyio

GREY_PIXELS = np.asarray(Image.open(io.BytesIO(picture())))

WAYS_IN: Mapping[str, dict[str, Any]] = {
    "png": {"content": picture(), "headers": PNG},
    "webp": {
        "content": picture(kind="WEBP", mode="RGB", colour=(90, 90, 90)),
        "headers": {"Content-Type": "image/webp"},
    },
    "jpeg": {"content": picture(kind="JPEG"), "headers": {"Content-Type": "image/jpeg"}},
    "multipart": multipart(picture()),
    "json": {"json": {"images": [base64_of(picture())]}},
    "data-uri": {"json": {"images": ["data:image/png;base64," + base64_of(picture())]}},
    "npy": {"content": npy(GREY_PIXELS[None]), "headers": NPY},
    "npy-channel": {"content": npy(GREY_PIXELS[None, :, :, None]), "headers": NPY},
    "safetensors": {"content": safetensors.numpy.save({"images": GREY_PIXELS[None, None]}), "headers": SAFETENSORS},
}
SAME_PICTURE = sorted(WAYS_IN.keys() - {"jpeg", "webp"})


@pytest.mark.parametrize("way", WAYS_IN)
async def test_encode_takes_an_image_in_every_form(client: httpx.AsyncClient, way: str) -> None:
    """The answer has three latents, their mean and their log-variance, all finite."""
    answer = (await ok(await client.post("/v1/encode", **WAYS_IN[way]))).json()

    assert answer.keys() == {"model", "version", "latents", "mean", "log_variance", "latent_space", "scaled"}
    assert (answer["model"], answer["version"]) == ("grey", 1)
    assert np.isfinite([answer["latents"], answer["mean"], answer["log_variance"]]).all()
    assert np.shape(answer["latents"]) == (1, 3)


@pytest.mark.parametrize("way", SAME_PICTURE)
async def test_same_image_has_the_same_latents_in_every_form(client: httpx.AsyncClient, way: str) -> None:
    """The latents are equal to the last digit."""
    expected = (await client.post("/v1/encode", **WAYS_IN["png"])).json()

    assert (await client.post("/v1/encode", **WAYS_IN[way])).json() == expected


async def test_encode_keeps_the_order_of_many(client: httpx.AsyncClient) -> None:
    """Parts, JSON and arrays keep the order of the images."""
    shades = [picture(colour=value) for value in (0, 128, 255)]
    array = np.stack([np.full((8, 8), value, np.uint8) for value in (0, 128, 255)])
    one_by_one = [
        (await client.post("/v1/encode", content=shade, headers=PNG)).json()["latents"][0] for shade in shades
    ]

    by_parts = (await client.post("/v1/encode", **multipart(*shades))).json()
    by_json = (await client.post("/v1/encode", json={"images": [base64_of(shade) for shade in shades]})).json()
    by_array = (await client.post("/v1/encode", content=npy(array), headers=NPY)).json()

    assert by_parts == by_json == by_array
    np.testing.assert_allclose(by_parts["latents"], one_by_one, rtol=1e-5, atol=1e-6)


async def test_encode_answers_the_same_numbers_in_every_format(client: httpx.AsyncClient) -> None:
    """JSON has exactly the float32 values of npy and safetensors."""
    post = WAYS_IN["png"]
    in_json = (await client.post("/v1/encode", **post)).json()
    in_npy = read_npy(await client.post("/v1/encode?format=npy", **post))
    in_safetensors = safetensors.numpy.load((await client.post("/v1/encode?format=safetensors", **post)).content)

    assert in_npy.dtype == np.float32
    assert np.array_equal(np.asarray(in_json["latents"], np.float32), in_npy)
    assert in_safetensors.keys() == {"latents", "mean", "log_variance"}
    for name, values in in_safetensors.items():
        assert np.array_equal(np.asarray(in_json[name], np.float32), values)


async def test_encode_gives_the_mean_unless_a_draw_is_asked_for(client: httpx.AsyncClient) -> None:
    """X-Seed has the seed that gives a draw again; the mean has no seed."""
    post = WAYS_IN["png"]
    mean = await client.post("/v1/encode", **post)
    drawn = await client.post("/v1/encode?latents=sample", **post)
    again = await client.post(f"/v1/encode?latents=sample&seed={drawn.headers['x-seed']}", **post)

    assert "x-seed" not in mean.headers
    assert mean.json()["latents"] == mean.json()["mean"]
    assert drawn.json()["latents"] != mean.json()["latents"]
    assert again.json() == drawn.json()


@pytest.mark.parametrize("drawn", [lambda limit: limit - 1, secrets.randbelow], ids=["largest", "random"])
async def test_drawn_seed_survives_a_reader_of_doubles(
    client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch, drawn: Callable[[int], int]
) -> None:
    """JavaScript's JSON.parse makes every number a double; the seed still gives the same picture."""
    monkeypatch.setattr(secrets, "randbelow", drawn)
    answer = (await client.get("/v1/sample?format=json")).json()
    again = (await client.get(f"/v1/sample?format=json&seed={int(float(answer['seed']))}")).json()

    assert again == answer


async def test_named_seed_may_be_as_large_as_a_signed_integer_of_64_bits(client: httpx.AsyncClient) -> None:
    """A client that names a large seed knows it already, so no reader has to hold it."""
    answer = await client.get(f"/v1/sample?format=json&seed={2**63 - 1}")

    assert answer.headers["x-seed"] == str(2**63 - 1)
    assert answer.json()["seed"] == 2**63 - 1


async def test_draw_is_the_mean_plus_scaled_noise(client: httpx.AsyncClient) -> None:
    """z = μ + σ ε with ε of the seed, so (z − μ) / σ is the same for every image at the same place."""
    answers = [
        (await client.post("/v1/encode?latents=sample&seed=5", content=picture(colour=value), headers=PNG)).json()
        for value in (30, 200)
    ]
    noise = [
        (np.array(answer["latents"]) - answer["mean"]) / np.exp(0.5 * np.array(answer["log_variance"]))
        for answer in answers
    ]

    np.testing.assert_allclose(noise[0], noise[1], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("resize", "corner"), [("contain", 0), ("cover", 255), ("stretch", 255)])
async def test_picture_of_another_size_is_brought_to_the_models(
    client: httpx.AsyncClient, resize: str, corner: int
) -> None:
    """A white picture, twice as wide as high, is padded with black, or cropped, or distorted."""
    wide = picture(size=(32, 16), colour=255)
    expected = np.full((1, 8, 8), 255, np.uint8)
    expected[0, :2] = expected[0, -2:] = corner

    resized = await client.post(f"/v1/encode?resize={resize}", content=wide, headers=PNG)

    assert resized.json() == (await client.post("/v1/encode", content=npy(expected), headers=NPY)).json()


async def test_colour_picture_becomes_grey_for_a_grey_model(client: httpx.AsyncClient) -> None:
    """A grey picture becomes a colour picture for a colour model."""
    colourful = picture(mode="RGB", colour=(200, 100, 50))

    await ok(await client.post("/v1/models/grey/encode", content=colourful, headers=PNG))
    await ok(await client.post("/v1/models/colour/encode", content=picture(), headers=PNG))


async def test_latents_may_be_a_grid(client: httpx.AsyncClient) -> None:
    """Operations do not assume that latents are vectors."""
    answer = (await client.post("/v1/models/colour/encode", content=picture(), headers=PNG)).json()
    decoded = await client.post("/v1/models/colour/decode?format=npy", json={"latents": answer["latents"]})

    assert np.shape(answer["latents"]) == (1, 2, 4, 4)
    assert read_npy(decoded).shape == (1, 8, 8, 3)


LATENTS = np.array([[0.5, -1.0, 2.0], [0.0, 0.0, 0.0]], np.float32)


@pytest.mark.parametrize(
    "sent",
    [
        pytest.param({"json": {"latents": LATENTS.tolist()}}, id="json"),
        pytest.param({"content": npy(LATENTS), "headers": NPY}, id="npy"),
        pytest.param({"content": npy(LATENTS.astype(np.float16)), "headers": NPY}, id="npy-float16"),
        pytest.param({"content": npy(LATENTS.astype(">f4")), "headers": NPY}, id="npy-big-endian"),
        pytest.param({"content": npy(np.asfortranarray(LATENTS)), "headers": NPY}, id="npy-fortran"),
        pytest.param(
            {"content": safetensors.numpy.save({"latents": LATENTS}), "headers": SAFETENSORS}, id="safetensors"
        ),
        pytest.param(
            {"content": safetensors.torch.save({"latents": torch.tensor(LATENTS).bfloat16()}), "headers": SAFETENSORS},
            id="safetensors-bfloat16",
        ),
    ],
)
async def test_decode_takes_latents_in_every_form(client: httpx.AsyncClient, sent: dict[str, Any]) -> None:
    """The same latents give the same images; half precision holds these values exactly."""
    expected = read_npy(await client.post("/v1/decode?format=npy", json={"latents": LATENTS.tolist()}))

    assert expected.shape == (2, 8, 8, 1)
    assert np.array_equal(read_npy(await ok(await client.post("/v1/decode?format=npy", **sent))), expected)


async def test_images_are_the_same_in_every_format(client: httpx.AsyncClient) -> None:
    """PNG and lossless WebP hold the pixels of npy, which are the rounded images of safetensors; JPEG is close."""
    url, params = "/v1/sample", {"seed": 7, "n": 1}
    get = {name: await ok(await client.get(url, params={**params, "format": name})) for name in
           ("png", "webp", "jpeg", "npy", "safetensors", "json")}  # fmt: skip
    pixels = read_npy(get["npy"])[0, :, :, 0]
    floats = safetensors.numpy.load(get["safetensors"].content)["images"]
    in_json = Image.open(io.BytesIO(base64.b64decode(get["json"].json()["images"][0])))

    assert floats.dtype == np.float32
    assert floats.shape == (1, 1, 8, 8)
    assert np.array_equal(np.round(floats[0, 0] * 255).astype(np.uint8), pixels)
    assert np.array_equal(np.asarray(opened(get["png"])), pixels)
    assert np.array_equal(np.asarray(opened(get["webp"]).convert("L")), pixels)
    assert np.array_equal(np.asarray(in_json), pixels)
    assert np.abs(np.asarray(opened(get["jpeg"])).astype(int) - pixels).mean() < 8


async def test_several_images_as_one_picture_are_a_grid(client: httpx.AsyncClient) -> None:
    """The images stand row by row, in order, with a line of one pixel between them."""
    array = read_npy(await client.get("/v1/sample?n=4&seed=7&format=npy"))
    grid = np.asarray(opened(await client.get("/v1/sample?n=4&seed=7")))

    assert grid.shape == (17, 17)
    assert np.array_equal(grid[:8, 9:], array[1, :, :, 0])
    assert np.array_equal(grid[9:, :8], array[2, :, :, 0])


async def test_sample_in_json_has_its_seed_and_latents(client: httpx.AsyncClient) -> None:
    """Decoding the latents gives the same images."""
    answer = (await client.get("/v1/sample?n=2&seed=7", headers={"Accept": "application/json"})).json()
    decoded = (await client.post("/v1/decode?format=json", json={"latents": answer["latents"]})).json()

    assert answer.keys() == {"model", "version", "images", "seed", "latents"}
    assert answer["seed"] == 7
    assert decoded["images"] == answer["images"]


async def test_unseeded_sample_tells_the_seed_that_gives_it_again(client: httpx.AsyncClient) -> None:
    """Two unseeded samples differ; by chance they would be equal once in 2⁵³."""
    first, second = await client.get("/v1/sample"), await client.get("/v1/sample")
    again = await client.get("/v1/sample", params={"seed": first.headers["x-seed"]})

    assert first.headers["x-seed"] != second.headers["x-seed"]
    assert again.content == first.content


async def test_image_of_a_seed_does_not_depend_on_how_many_are_asked_for(client: httpx.AsyncClient) -> None:
    """The first image of ten is the image of one."""
    one, ten = [read_npy(await client.get(f"/v1/sample?seed=7&n={n}&format=npy")) for n in (1, 10)]

    assert np.array_equal(ten[:1], one)


async def test_sample_is_the_same_bytes_alone_and_under_load(client: httpx.AsyncClient) -> None:
    """Other requests in the batch change nothing."""
    alone = {seed: (await client.get(f"/v1/sample?seed={seed}&n={seed % 3 + 1}")).content for seed in range(24)}

    crowd = await asyncio.gather(*(client.get(f"/v1/sample?seed={seed}&n={seed % 3 + 1}") for seed in range(24)))

    assert {seed: response.content for seed, response in enumerate(crowd)} == alone


async def test_encode_is_the_same_alone_and_in_a_full_batch(client: httpx.AsyncClient) -> None:
    """The latents agree within 1e-5, relative or absolute; on a CPU they have the same bits."""
    shades = [npy(np.full((1, 8, 8), value, np.uint8)) for value in range(0, 240, 30)]
    alone = [read_npy(await client.post("/v1/encode?format=npy", content=shade, headers=NPY)) for shade in shades]

    crowd = await asyncio.gather(
        *(client.post("/v1/encode?format=npy", content=shade, headers=NPY) for shade in shades)
    )

    for one, response in zip(alone, crowd, strict=True):
        np.testing.assert_allclose(read_npy(response), one, rtol=1e-5, atol=1e-5)


async def test_temperature_scales_the_draw(client: httpx.AsyncClient) -> None:
    """Temperature 0 is the middle of the prior; 2 is twice as far from it as 1."""
    latents = {
        temperature: np.array(
            (await client.get(f"/v1/sample?seed=7&format=json&temperature={temperature}")).json()["latents"]
        )
        for temperature in (0, 1, 2)
    }

    assert (latents[0] == 0).all()
    np.testing.assert_allclose(latents[2], 2 * latents[1], rtol=1e-6)


async def test_reconstruct_is_encode_then_decode(client: httpx.AsyncClient) -> None:
    """JSON has the distance from the original, on the scale [0, 1]."""
    post = WAYS_IN["png"]
    latents = (await client.post("/v1/encode", **post)).json()["latents"]
    decoded = safetensors.numpy.load(
        (await client.post("/v1/decode?format=safetensors", json={"latents": latents})).content
    )["images"]

    answer = (await client.post("/v1/reconstruct?format=json", **post)).json()
    as_floats = safetensors.numpy.load((await client.post("/v1/reconstruct?format=safetensors", **post)).content)

    np.testing.assert_array_equal(as_floats["images"], decoded)
    mse = ((decoded[0, 0] - GREY_PIXELS / 255) ** 2).mean()
    assert answer["mse"] == [pytest.approx(mse)]
    assert answer["psnr_db"] == [pytest.approx(-10 * np.log10(mse))]


async def test_reconstruct_gives_a_picture_by_default(client: httpx.AsyncClient) -> None:
    """Each picture gives one picture."""
    response = await ok(await client.post("/v1/reconstruct", content=picture(), headers=PNG))

    assert response.headers["content-type"] == "image/png"
    assert opened(response).size == (8, 8)


async def test_answers_name_the_model_and_where_the_time_went(client: httpx.AsyncClient) -> None:
    """Headers hold both, so that binary answers have them too."""
    response = await client.post("/v1/models/grey@1/reconstruct", content=picture(), headers=PNG)
    stages = [part.split(";")[0] for part in response.headers["server-timing"].split(", ")]

    assert response.headers["x-model"] == "grey@1"
    assert stages == ["read", "queue", "compute", "write"]


async def test_seeded_sample_of_a_pinned_version_may_be_cached_for_a_year(client: httpx.AsyncClient) -> None:
    """A client that holds the sample gets a 304 without a computation."""
    response = await client.get("/v1/models/grey@1/sample?seed=7")
    held = {"If-None-Match": response.headers["etag"]}
    again = await client.get("/v1/models/grey@1/sample?seed=7", headers=held)
    other = await client.get("/v1/models/grey@1/sample?seed=8", headers=held)

    assert response.headers["cache-control"] == "public, max-age=31536000, immutable"
    assert (again.status_code, again.content) == (304, b"")
    assert {name: again.headers[name] for name in ("etag", "vary", "x-model")} == {
        name: response.headers[name] for name in ("etag", "vary", "x-model")
    }
    assert other.status_code == 200


async def test_sample_is_named_weakly(client: httpx.AsyncClient) -> None:
    """No library promises the same last bit in batches of other sizes; the 304 works all the same."""
    tag = (await client.get("/v1/models/grey@1/sample?seed=7")).headers["etag"]

    assert tag.startswith('W/"')


async def test_machine_on_which_no_size_agrees_is_logged(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same seed gives the same image there but for rounding, and the 304 works all the same."""

    async def nothing_agrees(*_: object, **__: object) -> list[int]:
        return []

    monkeypatch.setattr(batch_plan, "reproducible_sizes", nothing_agrees)
    logs.configure("warning", settings.log_format)
    with structlog.testing.capture_logs() as logged:
        async with running(settings, cache=tmp_path) as (_, client):
            tag = (await client.get("/v1/models/grey@1/sample?seed=7")).headers["etag"]
            again = await client.get("/v1/models/grey@1/sample?seed=7", headers={"If-None-Match": tag})

    assert again.status_code == 304
    assert ("warning", "grey@1") in {(line["log_level"], line.get("model")) for line in logged}


async def test_sample_has_another_name_where_another_processor_computes_it(
    app: FastAPI, client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Other kernels round in another way."""
    here = await client.get("/v1/models/grey@1/sample?seed=7")
    monkeypatch.setattr(app.state.parts.registry.device, "fingerprint", "another processor's")
    there = await client.get("/v1/models/grey@1/sample?seed=7", headers={"If-None-Match": here.headers["etag"]})

    assert there.status_code == 200
    assert there.headers["etag"] != here.headers["etag"]


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize(
    ("query", "status"),
    [
        ("seed=7&n=16", 304),
        ("seed=7&n=17", 413),
        ("seed=7&n=1000000000", 413),
        ("seed=7&n=0", 422),
        ("seed=7&format=gif", 422),
        ("n=2", 200),
    ],
)
async def test_condition_counts_only_where_the_answer_would_be_200(
    client: httpx.AsyncClient, method: str, query: str, status: int
) -> None:
    """An error stays an error (RFC 9110, section 13.2.1), and a sample without a seed is another one each time."""
    response = await client.request(method, f"/v1/sample?{query}", headers={"If-None-Match": "*"})

    assert response.status_code == status


async def test_condition_of_a_model_that_cannot_sample_is_an_error(
    app: FastAPI, client: httpx.AsyncClient, store: Store
) -> None:
    """A plain autoencoder has no samples, so no client holds one."""
    store.publish("plain", make_model(GREY.model_copy(update={"posterior": "point"})))
    await app.state.parts.registry.refresh()
    response = await client.get("/v1/models/plain/sample?seed=1", headers={"If-None-Match": "*"})

    assert response.status_code == 422


async def test_lists_may_stand_on_several_lines(client: httpx.AsyncClient) -> None:
    """Lines of one list are read as one list (RFC 9110, section 5.3)."""
    tag = (await client.get("/v1/sample?seed=7&format=png")).headers["etag"]
    held = await client.get("/v1/sample?seed=7", headers=[("If-None-Match", '"a,b"'), ("If-None-Match", tag)])
    chosen = await client.get("/v1/sample", headers=[("Accept", "image/png;q=0.1"), ("Accept", "image/webp")])
    encoded = [("Content-Encoding", "identity"), ("Content-Encoding", "gzip"), ("Content-Type", "image/png")]
    refused = await client.post("/v1/encode", content=picture(), headers=encoded)

    assert held.status_code == 304
    assert chosen.headers["content-type"] == "image/webp"
    assert refused.status_code == 415


async def test_seeded_sample_of_the_newest_version_must_be_asked_for_again(client: httpx.AsyncClient) -> None:
    """Another version may be the newest one tomorrow."""
    response = await client.get("/v1/models/grey/sample?seed=7")

    assert response.headers["cache-control"] == "public, no-cache"


async def test_unseeded_sample_is_not_kept(client: httpx.AsyncClient) -> None:
    """The next sample is another one."""
    response = await client.get("/v1/models/grey@1/sample")

    assert response.headers["cache-control"] == "no-store"
    assert "etag" not in response.headers


async def test_kept_formats_are_kept_apart(client: httpx.AsyncClient) -> None:
    """The ETag of a PNG is not the ETag of the JSON."""
    tags = {
        (await client.get("/v1/models/grey@1/sample?seed=7", headers={"Accept": accept})).headers["etag"]
        for accept in ("image/png", "application/json", "application/x-npy")
    }

    assert len(tags) == 3


async def test_several_models_answer_at_once(client: httpx.AsyncClient) -> None:
    """Each model answers with its own images."""
    grey, colour = await asyncio.gather(
        client.get("/v1/models/grey/sample?format=npy"), client.get("/v1/models/colour/sample?format=npy")
    )

    assert read_npy(grey).shape == (1, 8, 8, 1)
    assert read_npy(colour).shape == (1, 8, 8, 3)


async def test_phone_portrait_is_a_picture(client: httpx.AsyncClient) -> None:
    """An MPO file holds a JPEG, and after it the pictures from which the phone made it."""
    buffer = io.BytesIO()
    Image.new("L", (8, 8), 90).save(buffer, "MPO", save_all=True, append_images=[Image.new("L", (8, 8))])

    portrait = await client.post("/v1/encode", content=buffer.getvalue(), headers={"Content-Type": "image/jpeg"})
    same = await client.post("/v1/encode", content=picture(colour=90), headers=PNG)

    np.testing.assert_allclose(portrait.json()["mean"], same.json()["mean"], atol=0.2)


@pytest.mark.parametrize("path", ["/", "/livez", "/readyz", "/healthz", "/metrics", "/v1/models", "/v1/sample"])
async def test_head_answers_as_get_would(client: httpx.AsyncClient, path: str) -> None:
    """Load balancers may probe with HEAD."""
    assert (await client.head(path)).status_code == 200


async def test_equal_weights_under_another_name_have_another_tag(
    app: FastAPI, client: httpx.AsyncClient, store: Store
) -> None:
    """The answer names its model, so the answer of a copy has other bytes."""
    store.publish("copy", store.load(store.resolve("grey")).model)
    await app.state.parts.registry.refresh()
    tags = [(await client.get(f"/v1/models/{name}/sample?seed=7")).headers["etag"] for name in ("grey", "copy")]

    assert tags[0] != tags[1]


async def test_large_bodies_are_answered_as_small_ones(app: FastAPI, client: httpx.AsyncClient) -> None:
    """Large bodies are parsed in a thread; the numbers are the same."""
    padded = json.dumps({"images": [base64_of(picture())]}) + " " * 70_000

    large = await client.post("/v1/encode", content=padded, headers=JSON)

    assert large.json() == (await client.post("/v1/encode", **WAYS_IN["json"])).json()
