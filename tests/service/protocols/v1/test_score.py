"""Score over HTTP: the bounds of images, by which protocol, and their rank among the test images."""

from __future__ import annotations

import io
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from typing import Any

import httpx
import numpy as np
import pytest
import torch
from fastapi import FastAPI
from PIL import Image

from model_store import Calibration, LatentSummary, ModelVersion, ScoreQuantiles, Store
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
    calibrated = store.publish("calibrated", make_model(GREY))
    for name, first in (("default", -200.0), ("strict", 1000.0)):
        store.add_calibration(calibrated, name, calibration(store, calibrated, first))
    return store


def calibration(store: Store, version: ModelVersion, first_elbo: float) -> Calibration:
    """Normal images whose ELBO begins there; their other statistics lie from 0 to 100."""
    hundred = tuple(float(number) for number in range(101))
    scores = ScoreQuantiles(
        elbo_nats=tuple(first_elbo + number for number in hundred),
        log_likelihood_nats=hundred,
        kl_nats=hundred,
        latent_distance=hundred,
        corrected_nats=hundred,
        typicality=hundred,
        pixel_nats=hundred,
        protocol="made up",
    )
    latents = LatentSummary(mean=(0, 0, 0), standard_deviation=(1, 1, 1), kl_nats=None)
    digest = store.card(version).weights.sha256
    return Calibration(
        created=datetime(2026, 11, 27, tzinfo=UTC),
        weights_sha256=digest,
        data="good parts",
        images=500,
        draws=1,
        scores=scores,
        latents=latents,
    )


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


@pytest.mark.parametrize("model", ["grey", "uniform", "eight-bit"])
async def test_picture_has_one_score_without_a_seed(client: httpx.AsyncClient, model: str) -> None:
    """The same picture has the same score in each call and at each place of a batch: all images share their noise."""
    alone = await scored(client, model, "importance_samples=3", grey(4)[2:3])
    together = await scored(client, model, "importance_samples=3", grey(4)[[0, 2, 1, 2]])

    for name in ("elbo_nats", "log_likelihood_nats", "kl_nats", "importance_weighted_nats"):
        assert together[name][1] == together[name][3] == alone[name][0]
    assert "the same noise for all images" in alone["protocol"]


async def test_only_a_seed_that_was_sent_is_told(client: httpx.AsyncClient) -> None:
    """X-Seed has the seed of noise by place; without one nothing was drawn anew."""
    shared = await ok(await client.post("/v1/models/grey/score", content=picture(), headers=PNG))
    seeded = await ok(await client.post("/v1/models/grey/score?seed=7", content=picture(), headers=PNG))

    assert "x-seed" not in shared.headers
    assert seeded.headers["x-seed"] == "7"


async def test_score_has_no_safetensors(client: httpx.AsyncClient) -> None:
    """A format that score does not have is 406."""
    response = await client.post("/v1/models/grey/score?format=safetensors", content=picture(), headers=PNG)

    assert response.status_code == 406


async def test_format_without_room_for_numbers_is_the_map(client: httpx.AsyncClient) -> None:
    """`map=true` may be left out there, and a client may ask by Accept."""
    asked = await client.post("/v1/models/grey/score?map=true&format=npy", content=picture(), headers=PNG)
    accepted = await client.post(
        "/v1/models/grey/score", content=picture(), headers={**PNG, "Accept": "application/x-npy"}
    )

    assert accepted.headers["content-type"] == "application/x-npy"
    assert (await ok(accepted)).content == (await ok(asked)).content


async def test_map_has_the_error_of_each_pixel(client: httpx.AsyncClient) -> None:
    """Its sum over the pixels is the negative log-likelihood, in npy and JSON alike, for one draw and for several."""
    for query in ("map=true", "map=true&seed=7&importance_samples=70"):
        found = await scored(client, "eight-bit", query)
        response = await client.post(
            f"/v1/models/eight-bit/score?{query}&format=npy", content=npy(grey(4)), headers=NPY
        )
        error_map = np.load(io.BytesIO((await ok(response)).content))

        assert error_map.shape == (4, 8, 8)
        np.testing.assert_allclose(error_map, found["error_map_nats"], rtol=1e-6)
        np.testing.assert_allclose(error_map.sum((1, 2)), np.negative(found["log_likelihood_nats"]), rtol=1e-4)


async def test_map_changes_no_score(client: httpx.AsyncClient) -> None:
    """The numbers with a map and without one are the same, but for rounding."""
    plain, mapped = [await scored(client, "grey", query) for query in ("seed=3", "seed=3&map=true")]

    np.testing.assert_allclose(mapped["elbo_nats"], plain["elbo_nats"], rtol=1e-5)
    assert "error_map_nats" not in plain


async def test_picture_of_a_map_has_the_colours_of_the_normal_images(client: httpx.AsyncClient) -> None:
    """One picture for one image; several make a grid, and a grey model's map has colours too."""
    one = await client.post("/v1/models/calibrated/score?map=true&format=png", content=npy(grey(1)), headers=NPY)
    four = await client.post("/v1/models/calibrated/score?map=true&format=webp", content=npy(grey(4)), headers=NPY)

    with Image.open(io.BytesIO((await ok(one)).content), formats=["PNG"]) as picture_of_one:
        assert (picture_of_one.mode, picture_of_one.size) == ("RGB", (8, 8))
    with Image.open(io.BytesIO((await ok(four)).content), formats=["WEBP"]) as sheet:
        assert sheet.size == (17, 17)


async def test_picture_of_a_map_needs_the_errors_of_normal_pixels(client: httpx.AsyncClient) -> None:
    """Without them a colour would mean nothing; the message names the command and the other format."""
    response = await client.post("/v1/models/known/score?map=true&format=png", content=npy(grey(1)), headers=NPY)

    assert response.status_code == 422
    assert "python -m training.calibrate known@1" in response.json()["detail"]
    assert "format=npy" in response.json()["detail"]


async def test_image_is_compared_with_the_calibration_that_is_named(client: httpx.AsyncClient) -> None:
    """By default with the calibration of the name default, else with the model's own test images."""
    own = await scored(client, "known", "")
    default = await scored(client, "calibrated", "")
    strict = await scored(client, "calibrated", "calibration=strict")

    assert own["compared_with"] == "the model's own test images"
    assert default["compared_with"] == "default"
    assert strict["compared_with"] == "strict"
    assert strict["percentile"] == [0, 0, 0, 0]
    assert (await scored(client, "grey", ""))["compared_with"] is None


async def test_answer_says_that_the_normal_images_had_another_number_of_draws(client: httpx.AsyncClient) -> None:
    """Scores by more draws are less noisy, so that their ranks are a little too near the middle."""
    alike = await scored(client, "calibrated", "")
    finer = await scored(client, "calibrated", "importance_samples=5")

    assert "compared" not in alike["protocol"]
    assert finer["protocol"].endswith("compared with scores of K = 1")


async def test_percentile_is_of_the_statistic_that_is_named(client: httpx.AsyncClient) -> None:
    """All of them are in the answer, each by its own quantiles."""
    found = await scored(client, "calibrated", "statistic=kl")

    assert found["percentile"] == found["percentiles"]["kl"]
    np.testing.assert_allclose(found["percentile"], 100 - np.clip(found["kl_nats"], 0, 100), atol=1e-3)
    assert set(found["percentiles"]) == {"elbo", "reconstruction", "kl", "distance", "complexity", "typicality"}
    assert found["percentiles"]["distance"] is not None
    assert found["percentiles"]["complexity"] is not None
    assert found["anomalous"] is None


async def test_image_below_the_threshold_is_anomalous(client: httpx.AsyncClient) -> None:
    """Fewer normal images are as unusual than the threshold says."""
    found = await scored(client, "calibrated", "statistic=kl&threshold=q50")
    strict = await scored(client, "calibrated", "calibration=strict&threshold=q01")

    assert found["anomalous"] == [percentile < 50 for percentile in found["percentile"]]
    assert strict["anomalous"] == [True] * 4


@pytest.mark.parametrize(
    ("model", "query", "remedy"),
    [
        ("calibrated", "calibration=line-9", "has no calibration line-9 (it has default, strict)"),
        ("known", "calibration=line-9", "has no calibration line-9 (it has none)"),
        ("known", "statistic=kl", "has no quantiles of the statistic kl; measure normal images"),
        ("grey", "threshold=q01", "has no quantiles of the statistic elbo; measure normal images"),
        ("calibrated", "threshold=q01&binarise=threshold", "use binarise=sample"),
        ("calibrated", "threshold=q51", "threshold"),
        ("calibrated", "threshold=1", "threshold"),
        ("calibrated", "statistic=likelihood", "statistic"),
        ("calibrated", "calibration=../../etc", "calibration"),
    ],
)
async def test_comparison_that_is_not_possible_is_refused(
    client: httpx.AsyncClient, model: str, query: str, remedy: str
) -> None:
    """The 422 names the remedy."""
    response = await client.post(f"/v1/models/{model}/score?{query}", content=npy(grey(1)), headers=NPY)

    assert response.status_code == 422
    assert remedy in response.json()["detail"]


@pytest.mark.usefixtures("unharmed")
async def test_importance_samples_are_bounded(client: httpx.AsyncClient) -> None:
    """The message of the 413 names the limit."""
    response = await client.post("/v1/models/grey/score?importance_samples=16385", content=picture(), headers=PNG)

    assert response.status_code == 413
    assert "16,385 images times importance_samples, the limit is 16,384" in response.json()["detail"]
