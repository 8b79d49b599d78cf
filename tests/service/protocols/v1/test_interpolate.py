"""Interpolate over HTTP: the ends in each form, the images between them, and bodies that are not a pair."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import httpx
import numpy as np
import pytest
import safetensors.numpy
from fastapi import FastAPI

from model_store import Store
from model_store.vae import MLPConfig, UniformConfig, VAEConfig

from ....conftest import make_model
from ...wire import NPY, SAFETENSORS, base64_of, multipart, npy, ok, opened, picture, read_npy

pytestmark = pytest.mark.anyio


@pytest.fixture
def store(store: Store) -> Store:
    """A store with a uniform model too."""
    config = VAEConfig(image_shape=(1, 8, 8), latent_shape=(3,), network=MLPConfig(hidden=(16,)), prior=UniformConfig())
    store.publish("uniform", make_model(config))
    return store


def grey(count: int) -> np.ndarray:
    """Grey images, uint8 (count, 8, 8)."""
    return np.random.default_rng(0).integers(0, 256, (count, 8, 8), dtype=np.uint8)


ENDS = [[1.0, 0.0, 0.5], [0.0, 2.0, -0.5]]
PAIRS: Mapping[str, dict[str, Any]] = {
    "multipart": multipart(picture(), picture(colour=200)),
    "json-images": {"json": {"images": [base64_of(picture()), base64_of(picture(colour=200))]}},
    "json-latents": {"json": {"latents": ENDS}},
    "npy-images": {"content": npy(grey(2)), "headers": NPY},
    "npy-latents": {"content": npy(np.array(ENDS, dtype=np.float32)), "headers": NPY},
    "safetensors-images": {
        "content": safetensors.numpy.save({"images": grey(2)[:, None]}),
        "headers": SAFETENSORS,
    },
    "safetensors-latents": {
        "content": safetensors.numpy.save({"latents": np.array(ENDS, dtype=np.float32)}),
        "headers": SAFETENSORS,
    },
}


@pytest.mark.parametrize(("form", "limit"), [("webp", "16,383"), ("jpeg", "65,500")])
@pytest.mark.usefixtures("unharmed")
async def test_row_that_is_too_long_for_a_picture_format_is_413(
    app: FastAPI, client: httpx.AsyncClient, form: str, limit: str
) -> None:
    """The message names the longest side of the format; PNG and arrays have no such limit."""
    app.state.sessions.limits = replace(app.state.sessions.limits, images=10_000, pixels=10**9)
    response = await client.post(f"/v1/models/grey/interpolate?format={form}&steps=8200", json={"latents": ENDS})

    assert response.status_code == 413
    assert f"the limit is {limit}" in response.json()["detail"]


@pytest.mark.parametrize("way", PAIRS)
async def test_interpolation_takes_images_or_latents_in_every_form(client: httpx.AsyncClient, way: str) -> None:
    """The answer is eight pictures in a row, unless `steps` says another number."""
    picture = opened(await ok(await client.post("/v1/models/grey/interpolate", **PAIRS[way])))

    assert picture.size == (8 * 8 + 7, 8)


@pytest.mark.parametrize("path", ["linear", "spherical"])
@pytest.mark.parametrize("model", ["grey", "uniform"])
async def test_interpolation_ends_at_what_was_sent(client: httpx.AsyncClient, path: str, model: str) -> None:
    """The first and the last image are the images of the two latents, to one grey value."""
    ends = [[0.2, 0.9, 0.5], [0.7, 0.1, 0.3]]
    query = f"/v1/models/{model}/interpolate?format=npy&steps=5&path={path}"
    between = read_npy(await ok(await client.post(query, json={"latents": ends})))
    decoded = read_npy(await ok(await client.post(f"/v1/models/{model}/decode?format=npy", json={"latents": ends})))

    assert len(between) == 5
    assert np.abs(between[[0, -1]].astype(int) - decoded).max() <= 1


async def test_interpolation_between_images_is_the_one_between_their_means(client: httpx.AsyncClient) -> None:
    """Images are encoded, and their posterior means are the ends."""
    latents = (await ok(await client.post("/v1/models/grey/encode", content=npy(grey(2)), headers=NPY))).json()[
        "latents"
    ]
    of_images = await client.post("/v1/models/grey/interpolate", content=npy(grey(2)), headers=NPY)
    of_latents = await client.post("/v1/models/grey/interpolate", json={"latents": latents})

    assert (await ok(of_images)).content == (await ok(of_latents)).content


@pytest.mark.parametrize(
    ("sent", "reason"),
    [
        ({"json": {"latents": [*ENDS, ENDS[0]]}}, "between two images or latents, not 3; send two"),
        ({"json": {}}, "has neither images nor latents; send two of one of them"),
        ({"json": {"latents": [[1.0], [2.0]]}}, "A latent is 1, but grey@1 takes 3"),
        ({"content": npy(grey(1)), "headers": NPY}, "not 1"),
        ({"content": npy(np.zeros((2, 8, 8, 5), np.uint8)), "headers": NPY}, "The images are (2, 8, 8, 5); expected"),
        (
            {"content": npy(np.zeros((2, 3), np.int64)), "headers": NPY},
            "The images or latents have the type int64; expected uint8",
        ),
        (
            {"content": safetensors.numpy.save({"images": np.zeros((2, 3), np.float32)}), "headers": SAFETENSORS},
            "The images are (2, 3); expected (B, C, H, W)",
        ),
    ],
)
@pytest.mark.usefixtures("unharmed")
async def test_anything_but_a_pair_is_refused(client: httpx.AsyncClient, sent: dict[str, Any], reason: str) -> None:
    """The message of the 422 says what was expected."""
    response = await client.post("/v1/models/grey/interpolate", **sent)

    assert response.status_code == 422
    assert reason in response.json()["detail"]
