"""Traverse over HTTP: a row of images for each dimension, and where it begins."""

from __future__ import annotations

import httpx
import numpy as np
import pytest
from pydantic import ValidationError

from model_store import LatentSummary, Store
from model_store.vae import GaussianConfig, MLPConfig, VAEConfig
from service.protocols.v1.traverse import TraverseParameters
from service.settings import Settings

from ....conftest import GREY, make_model
from ...wire import ok, opened, read_npy

pytestmark = pytest.mark.anyio

SPREAD = LatentSummary(mean=(1.0, 0.0, -1.0), standard_deviation=(0.5, 2.0, 1.0), kl_nats=None)


@pytest.fixture
def store(store: Store) -> Store:
    """A store with models whose cards say where their latents lie."""
    autoencoder = VAEConfig(
        image_shape=(1, 8, 8),
        latent_shape=(3,),
        network=MLPConfig(hidden=(16,)),
        posterior="point",
        likelihood=GaussianConfig(standard_deviation=0.1),
    )
    store.publish("ae", make_model(autoencoder), latents=SPREAD)
    store.publish("known", make_model(GREY), latents=SPREAD.model_copy(update={"kl_nats": (0.1, 3.0, 2.0)}))
    return store


@pytest.fixture
def settings(settings: Settings) -> Settings:
    """Limits that allow a traversal, and small batches, since several models are warmed up."""
    return settings.model_copy(update={"max_images_per_request": 64, "max_batch_images": 2})


def test_errors_about_dimensions_are_bounded() -> None:
    """An address has room for thousands, and a sentence about each held up the event loop for 50 ms."""
    with pytest.raises(ValidationError) as raised:
        TraverseParameters.model_validate({"dims": ["x," * 7000]})

    assert raised.value.error_count() == 501


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
