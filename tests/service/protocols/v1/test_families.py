"""For each kind of model, the operations that it can do over HTTP and the operations that it lacks."""

from __future__ import annotations

from functools import partial

import httpx
import pytest

from model_store import LatentSummary, Store
from model_store.vae import GaussianConfig, MLPConfig, UniformConfig, VAEConfig
from service.settings import Settings

from ....conftest import make_model
from ...wire import PNG, ok, picture

pytestmark = pytest.mark.anyio

small = partial(VAEConfig, image_shape=(1, 8, 8), latent_shape=(3,), network=MLPConfig(hidden=(16,)))
SPREAD = LatentSummary(mean=(1.0, 0.0, -1.0), standard_deviation=(0.5, 2.0, 1.0), kl_nats=None)


@pytest.fixture
def store(store: Store) -> Store:
    """A store with one model of each kind."""
    fixed = GaussianConfig(standard_deviation=0.1)
    store.publish("ae", make_model(small(posterior="point", likelihood=fixed)), latents=SPREAD)
    store.publish("ae-plain", make_model(small(posterior="point", likelihood=fixed)))
    store.publish("generator", make_model(small(posterior="none")))
    store.publish("uniform", make_model(small(prior=UniformConfig())))
    return store


@pytest.fixture
def settings(settings: Settings) -> Settings:
    """Limits that allow a traversal, and small batches, since many models are warmed up."""
    return settings.model_copy(update={"max_images_per_request": 64, "max_batch_images": 2})


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
