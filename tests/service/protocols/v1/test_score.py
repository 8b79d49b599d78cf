"""Score over HTTP: the bounds of images, by which protocol, and their rank among the test images."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any

import httpx
import numpy as np
import pytest
import torch
from fastapi import FastAPI

from model_store import ScoreQuantiles, Store
from model_store.vae import DiscretisedLogisticConfig, MLPConfig, UniformConfig, VAEConfig
from service.settings import Settings
from training.evaluate.bounds import score as evaluated

from ....conftest import GREY, make_model
from ...wire import NPY, PNG, npy, ok, picture

pytestmark = pytest.mark.anyio

small = partial(VAEConfig, image_shape=(1, 8, 8), latent_shape=(3,), network=MLPConfig(hidden=(16,)))
USUAL = ScoreQuantiles(elbo_nats=tuple(-200.0 + 2 * number for number in range(101)), protocol="made up")


@pytest.fixture
def store(store: Store) -> Store:
    """A store with each kind of model that can score."""
    store.publish("uniform", make_model(small(prior=UniformConfig())))
    store.publish("eight-bit", make_model(small(likelihood=DiscretisedLogisticConfig())))
    store.publish("known", make_model(GREY), scores=USUAL)
    return store


@pytest.fixture
def settings(settings: Settings) -> Settings:
    """Small batches, since several models are warmed up."""
    return settings.model_copy(update={"max_batch_images": 2})


def grey(count: int) -> np.ndarray:
    """Grey images, uint8 (count, 8, 8)."""
    return np.random.default_rng(0).integers(0, 256, (count, 8, 8), dtype=np.uint8)


async def scored(client: httpx.AsyncClient, model: str, query: str, images: np.ndarray | None = None) -> dict[str, Any]:
    """The JSON that score answers."""
    content = npy(grey(4) if images is None else images)
    response = await ok(await client.post(f"/v1/models/{model}/score?{query}", content=content, headers=NPY))
    answer: dict[str, Any] = response.json()
    return answer


@pytest.mark.parametrize(
    ("model", "seed", "draws"), [("grey", 7, 1), ("grey", 8, 5), ("uniform", 1, 3), ("eight-bit", 2, 70)]
)
async def test_score_is_the_number_of_trainings_evaluation(
    client: httpx.AsyncClient, store: Store, model: str, seed: int, draws: int
) -> None:
    """The service and training's evaluation agree for the same images, seed and draws, but for rounding."""
    pixels = torch.from_numpy(grey(4)).unsqueeze(1)
    expected = evaluated(store.load(store.resolve(model)).vae, pixels, draws, seed)

    found = await scored(client, model, f"seed={seed}&importance_samples={draws}")

    for name in ("elbo_nats", "log_likelihood_nats", "kl_nats", "importance_weighted_nats"):
        torch.testing.assert_close(
            torch.tensor(found[name], dtype=torch.float64), getattr(expected, name), rtol=1e-5, atol=1e-4
        )


async def test_score_says_by_which_protocol(client: httpx.AsyncClient) -> None:
    """The protocol names the binarisation, the number of draws and the seed."""
    drawn = await scored(client, "grey", "seed=7&importance_samples=3")
    cut = await scored(client, "grey", "seed=7&binarise=threshold")
    eight_bit = await scored(client, "eight-bit", "seed=7")

    assert drawn["protocol"] == "each binarised once by its grey values, K = 3 posterior draws, seed 7"
    assert cut["protocol"] == "binarised at the middle grey, K = 1 posterior draws, seed 7"
    assert eight_bit["protocol"] == "8-bit pixels as they are, K = 1 posterior draws, seed 7"


async def test_bits_per_dimension_are_for_8_bit_models_only(client: httpx.AsyncClient) -> None:
    """An image of 64 pixels has −ELBO / (64 ln 2); for binary pixels the number would have no meaning."""
    found = await scored(client, "eight-bit", "seed=7")

    assert (await scored(client, "grey", "seed=7"))["bits_per_dimension"] is None
    np.testing.assert_allclose(found["bits_per_dimension"], -np.array(found["elbo_nats"]) / (64 * np.log(2)), rtol=1e-6)


async def test_percentile_ranks_among_the_models_own_test_images(client: httpx.AsyncClient) -> None:
    """The percentile is interpolated between the quantiles in the card; a card without quantiles gives null."""
    found = await scored(client, "known", "seed=7")

    assert (await scored(client, "grey", "seed=7"))["percentile"] is None
    np.testing.assert_allclose(
        found["percentile"], np.clip((np.array(found["elbo_nats"]) + 200) / 2, 0, 100), atol=1e-3
    )


async def test_percentile_is_not_given_for_pixels_that_were_cut(client: httpx.AsyncClient) -> None:
    """Cut pixels score higher than the drawn pixels behind the quantiles, which would hide an anomaly."""
    assert (await scored(client, "known", "seed=7&binarise=threshold"))["percentile"] is None


async def test_score_of_an_image_is_the_same_alone_and_in_company(client: httpx.AsyncClient) -> None:
    """The noise of an image depends on the seed and its place: the first of four images scores as it does alone."""
    together = await scored(client, "grey", "seed=7&importance_samples=4")
    alone = await scored(client, "grey", "seed=7&importance_samples=4", grey(4)[:1])

    assert alone["importance_weighted_nats"] == together["importance_weighted_nats"][:1]


async def test_more_images_than_a_batch_are_scored_as_each_alone(app: FastAPI, client: httpx.AsyncClient) -> None:
    """A hundred images take several batches for each draw; the first image scores as it does alone."""
    app.state.sessions.limits = replace(app.state.sessions.limits, images=100, pixels=10**9, draws=1000)
    together = await scored(client, "grey", "seed=7&importance_samples=3", grey(100))
    alone = await scored(client, "grey", "seed=7&importance_samples=3", grey(100)[:1])

    assert alone["importance_weighted_nats"] == together["importance_weighted_nats"][:1]
    assert len(set(together["elbo_nats"])) == 100


async def test_unseeded_score_tells_the_seed_that_gives_it_again(client: httpx.AsyncClient) -> None:
    """X-Seed has the seed, as in every answer in which something was drawn."""
    first = await ok(await client.post("/v1/models/grey/score", content=picture(), headers=PNG))
    again = await client.post(f"/v1/models/grey/score?seed={first.headers['x-seed']}", content=picture(), headers=PNG)

    assert again.content == first.content


async def test_score_is_json_and_nothing_else(client: httpx.AsyncClient) -> None:
    """Score in another format is 406."""
    response = await client.post("/v1/models/grey/score?format=npy", content=picture(), headers=PNG)

    assert response.status_code == 406


@pytest.mark.usefixtures("unharmed")
async def test_importance_samples_are_bounded(client: httpx.AsyncClient) -> None:
    """The message of the 413 names the limit."""
    response = await client.post("/v1/models/grey/score?importance_samples=16385", content=picture(), headers=PNG)

    assert response.status_code == 413
    assert "16,385 images times importance_samples, the limit is 16,384" in response.json()["detail"]
