"""Score, interpolate and traverse over HTTP; and for each kind of model, the operations that it can do and lacks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import Any

import httpx
import numpy as np
import pytest
import safetensors.numpy
import torch
from fastapi import FastAPI

from model_store import LatentSummary, ScoreQuantiles, Store
from model_store.vae import DiscretisedLogisticConfig, GaussianConfig, MLPConfig, UniformConfig, VAEConfig
from service.operations import latent_paths
from service.settings import Settings
from training.evaluate.bounds import score as evaluated

from ....conftest import GREY, make_model
from ...wire import NPY, PNG, SAFETENSORS, base64_of, multipart, npy, ok, opened, picture, read_npy

pytestmark = pytest.mark.anyio

small = partial(VAEConfig, image_shape=(1, 8, 8), latent_shape=(3,), network=MLPConfig(hidden=(16,)))
SPREAD = LatentSummary(mean=(1.0, 0.0, -1.0), standard_deviation=(0.5, 2.0, 1.0), kl_nats=None)
USUAL = ScoreQuantiles(elbo_nats=tuple(-200.0 + 2 * number for number in range(101)), protocol="made up")


@pytest.fixture
def store(store: Store) -> Store:
    """A store with one model of each kind."""
    fixed = GaussianConfig(standard_deviation=0.1)
    store.publish("ae", make_model(small(posterior="point", likelihood=fixed)), latents=SPREAD)
    store.publish("ae-plain", make_model(small(posterior="point", likelihood=fixed)))
    store.publish("generator", make_model(small(posterior="none")))
    store.publish("uniform", make_model(small(prior=UniformConfig())))
    store.publish("eight-bit", make_model(small(likelihood=DiscretisedLogisticConfig())))
    store.publish(
        "known", make_model(GREY), scores=USUAL, latents=SPREAD.model_copy(update={"kl_nats": (0.1, 3.0, 2.0)})
    )
    return store


@pytest.fixture
def settings(settings: Settings) -> Settings:
    """Limits that allow a traversal, and small batches, since many models are warmed up."""
    return settings.model_copy(update={"max_images_per_request": 64, "max_batch_images": 2})


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
    expected = evaluated(store.load(store.resolve(model)).model, pixels, draws, seed)

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


@pytest.mark.parametrize(
    ("method", "path", "reason"),
    [
        ("POST", "ae/score", "ae@1 is a plain autoencoder and gives a point where a score needs a distribution"),
        ("GET", "ae/sample", "ae@1 is a plain autoencoder, which has no prior to draw from"),
        ("GET", "ae/traverse?seed=1", "which has no prior to draw from"),
        ("GET", "ae-plain/traverse", "whose card does not say where its latents lie"),
        (
            "POST",
            "generator/encode",
            "generator@1 has no encoder; sample, decode and traverse work, and interpolate between latents",
        ),
        ("POST", "generator/reconstruct", "generator@1 has no encoder"),
        ("POST", "generator/score", "generator@1 has no encoder"),
        ("POST", "generator/interpolate", "between two images or latents, not 1"),
    ],
)
@pytest.mark.usefixtures("unharmed")
async def test_operation_that_a_model_lacks_is_422_and_says_why(
    client: httpx.AsyncClient, method: str, path: str, reason: str
) -> None:
    """The message says what the model lacks and which operations work."""
    sent = {"GET": None, "POST": picture()}[method]
    response = await client.request(method, f"/v1/models/{path}", content=sent, headers=PNG)

    assert response.status_code == 422
    assert reason in response.json()["detail"]


@pytest.mark.parametrize("path", ["generator/sample?n=4", "generator/traverse", "uniform/sample?n=4", "ae/traverse"])
async def test_relatives_answer_what_they_can(client: httpx.AsyncClient, path: str) -> None:
    """A decoder alone samples, a uniform prior is sampled, and an autoencoder is traversed by its card."""
    await ok(await client.get(f"/v1/models/{path}"))


async def test_autoencoder_encodes_points(client: httpx.AsyncClient) -> None:
    """The log-variance is null, and a draw is the point itself."""
    answers = [
        (await ok(await client.post(f"/v1/models/ae/encode{query}", content=picture(), headers=PNG))).json()
        for query in ("", "?latents=sample&seed=1")
    ]

    assert answers[0] == answers[1]
    assert answers[0]["log_variance"] is None
    assert answers[0]["latents"] == answers[0]["mean"]


async def test_latents_of_a_uniform_model_lie_in_the_unit_cube(client: httpx.AsyncClient) -> None:
    """Decode takes the latents that encode gives; latents outside of the cube are 422."""
    encoded = (await ok(await client.post("/v1/models/uniform/encode", content=picture(), headers=PNG))).json()
    outside = await client.post("/v1/models/uniform/decode", json={"latents": [[0.5, 0.5, 1.5]]})

    assert all(0 <= value <= 1 for value in encoded["latents"][0])
    await ok(await client.post("/v1/models/uniform/decode", json={"latents": encoded["latents"]}))
    assert outside.status_code == 422
    assert "within 0 and 1" in outside.json()["detail"]


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


async def test_traversal_is_a_row_for_each_dimension(client: httpx.AsyncClient) -> None:
    """Three latents give three rows of nine columns; the middle column is the middle of the prior."""
    images = read_npy(await ok(await client.get("/v1/models/grey/traverse?format=npy")))
    middle = read_npy(await ok(await client.post("/v1/models/grey/decode?format=npy", json={"latents": [[0, 0, 0]]})))
    shown = opened(await ok(await client.get("/v1/models/grey/traverse")))

    assert shown.size == (9 * 8 + 8, 3 * 8 + 2)
    assert all(np.array_equal(row, middle[0]) for row in images[[4, 13, 22]])


async def test_traversal_moves_one_dimension_by_standard_deviations(client: httpx.AsyncClient) -> None:
    """In the row of dimension 2, the first column is at −span and the last column at +span."""
    query = "/v1/models/grey/traverse?format=npy&dims=2&steps=3&span=1.5"
    moved = read_npy(await ok(await client.get(query)))
    latents = [[0, 0, -1.5], [0, 0, 0], [0, 0, 1.5]]

    assert np.array_equal(
        moved, read_npy(await ok(await client.post("/v1/models/grey/decode?format=npy", json={"latents": latents})))
    )


async def test_even_number_of_steps_has_no_middle(client: httpx.AsyncClient) -> None:
    """Both ends are present, and the two columns between them divide the way into thirds."""
    moved = read_npy(await ok(await client.get("/v1/models/grey/traverse?format=npy&dims=0&steps=4&span=1.5")))
    latents = {"latents": [[place, 0, 0] for place in (-1.5, -0.5, 0.5, 1.5)]}

    np.testing.assert_allclose(
        moved, read_npy(await ok(await client.post("/v1/models/grey/decode?format=npy", json=latents))), atol=1e-6
    )


@pytest.mark.parametrize("query", ["dims=1&dims=2&dims=0", "dims=1,2&dims=0", "dims=1&dims=2,0"])
async def test_list_may_repeat_its_key_or_use_commas(client: httpx.AsyncClient, query: str) -> None:
    """Every value counts, in order; a dictionary made of the query would keep only the last one."""
    repeated = await ok(await client.get(f"/v1/traverse?format=npy&steps=3&{query}"))
    listed = await ok(await client.get("/v1/traverse?format=npy&steps=3&dims=1,2,0"))

    assert len(read_npy(repeated)) == 9
    assert repeated.content == listed.content


async def test_traversal_begins_with_the_dimension_that_tells_most(client: httpx.AsyncClient) -> None:
    """Rows are ordered by the KL in the card, or as in `dims` if it is given."""
    by_kl = await ok(await client.get("/v1/models/known/traverse"))
    listed = await ok(await client.get("/v1/models/known/traverse?dims=1,2,0"))

    assert by_kl.content == listed.content


async def test_traversal_of_an_autoencoder_moves_by_the_spread_in_its_card(client: httpx.AsyncClient) -> None:
    """The traversal starts at the mean of the latents; the widest dimension comes first."""
    moved = read_npy(await ok(await client.get("/v1/models/ae/traverse?format=npy&steps=3&span=1")))
    latents = {"latents": [[1, -2, -1], [1, 0, -1], [1, 2, -1]]}

    assert np.array_equal(
        moved[:3], read_npy(await ok(await client.post("/v1/models/ae/decode?format=npy", json=latents)))
    )


async def test_seeded_traversal_begins_at_that_sample(client: httpx.AsyncClient) -> None:
    """The middle column is the image that sample draws with the seed."""
    moved = read_npy(await ok(await client.get("/v1/models/grey/traverse?format=npy&steps=3&seed=5")))
    drawn = read_npy(await ok(await client.get("/v1/models/grey/sample?format=npy&seed=5")))

    assert np.array_equal(moved[1], drawn[0])


@pytest.mark.parametrize(
    ("query", "status", "reason"),
    [
        ("dims=3", 422, "There is no dimension 3 in grey@1; take 0 to 2"),
        ("dims=x", 422, "dims"),
        ("dims=-1", 422, "dims"),
        ("span=0", 422, "span"),
        ("steps=1", 422, "steps"),
        ("steps=100", 413, "300 images, the limit is 64"),
    ],
)
@pytest.mark.usefixtures("unharmed")
async def test_traversal_that_cannot_be_made_is_refused(
    client: httpx.AsyncClient, query: str, status: int, reason: str
) -> None:
    """The message names the parameter and the values that are possible."""
    response = await client.get(f"/v1/models/grey/traverse?{query}")

    assert response.status_code == status
    assert reason in response.json()["detail"]


def test_spherical_path_keeps_the_length_of_equally_long_latents() -> None:
    """The straight path is shorter in the middle."""
    start, end = torch.tensor([2.0, 0.0, 0.0]), torch.tensor([0.0, 2.0, 0.0])
    round_about, straight = (latent_paths.between(start, end, 5, path) for path in ("spherical", "linear"))

    torch.testing.assert_close(round_about.norm(dim=1), torch.full((5,), 2.0))
    torch.testing.assert_close(straight.norm(dim=1).min(), torch.tensor(2.0).sqrt())


@pytest.mark.parametrize("end", [[1.0, 0.0], [2.0, 0.0], [-1.0, 0.0], [0.0, 0.0]])
def test_spherical_path_is_finite_where_there_is_no_angle(end: list[float]) -> None:
    """For latents of the same direction, of opposite directions, or zero, the path is the straight one."""
    latents = latent_paths.between(torch.tensor([1.0, 0.0]), torch.tensor(end), 4, "spherical")

    torch.testing.assert_close(latents, latent_paths.between(torch.tensor([1.0, 0.0]), torch.tensor(end), 4, "linear"))
