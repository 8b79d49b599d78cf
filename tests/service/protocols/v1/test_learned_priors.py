"""Models with a learned prior, and plain autoencoders with a sampler, over HTTP."""

from __future__ import annotations

from functools import partial
from typing import cast

import httpx
import numpy as np
import pytest
import torch

from model_store import VAE, LatentSummary, Store
from model_store.vae import Flow, FlowConfig, GaussianConfig, MixtureConfig, MLPConfig, UniformConfig, VAEConfig
from model_store.vae.family import SamplerName
from model_store.vae.noise import standard_normal
from model_store.vae.pixels import to_pixels
from service.settings import Settings
from training.evaluate.bounds import score as evaluated

from ....conftest import make_model
from ...wire import NPY, PNG, npy, ok, picture, read_npy

pytestmark = pytest.mark.anyio

small = partial(VAEConfig, image_shape=(1, 8, 8), latent_shape=(3,), network=MLPConfig(hidden=(16,)))
FLOW, MIXTURE = FlowConfig(couplings=3, width=8), MixtureConfig(components=4)
SPREAD = LatentSummary(mean=(1.0, 0.0, -1.0), standard_deviation=(0.5, 2.0, 1.0), kl_nats=None)
POINT = partial(small, posterior="point", likelihood=GaussianConfig(standard_deviation=0.1))


def bent(config: VAEConfig) -> VAE:
    """A model whose learned distributions are far from N(0, I)."""
    model = make_model(config)
    with torch.no_grad():
        for part in (model.prior, *model.samplers.values()):
            for parameter in part.parameters() if isinstance(part, torch.nn.Module) else ():
                parameter.add_(0.3 * torch.randn_like(parameter))
    return model.requires_grad_(False)


MODELS = {
    "flow": small(prior=FLOW),
    "mixture": small(prior=MIXTURE),
    "ae": POINT(samplers=(FLOW, MIXTURE)),
    "ae-plain": POINT(),
    "both": small(samplers=(MIXTURE,)),
    "uniform": small(prior=UniformConfig(), samplers=(FLOW,)),
}


@pytest.fixture
def store(store: Store) -> Store:
    """A store with each kind of model."""
    for name, config in MODELS.items():
        store.publish(name, bent(config), latents=SPREAD)
    steep = bent(MODELS["flow"])
    for parameter in cast("Flow", steep.prior).couplings.parameters():
        parameter.mul_(1e4)
    store.publish("steep", steep)
    return store


@pytest.fixture
def settings(settings: Settings) -> Settings:
    """Limits that allow a traversal, and small batches, since many models are warmed up."""
    return settings.model_copy(update={"max_images_per_request": 64, "max_batch_images": 2})


async def samples(client: httpx.AsyncClient, model: str, query: str = "", n: int = 3) -> np.ndarray:
    """The images of a sample with seed 7, uint8 (n, 8, 8, 1)."""
    address = f"/v1/models/{model}/sample?seed=7&n={n}&format=npy{query}"
    return read_npy(await ok(await client.get(address)))


@pytest.mark.parametrize(
    ("model", "query", "sampler"),
    [
        ("flow", "", "prior"),
        ("mixture", "&sampler=prior", "prior"),
        ("ae", "", "flow"),
        ("ae", "&sampler=mixture", "mixture"),
        ("both", "", "prior"),
        ("uniform", "&sampler=flow", "flow"),
        ("both", "&sampler=mixture&temperature=0.5", "mixture"),
    ],
)
async def test_sample_is_drawn_from_the_sampler(
    client: httpx.AsyncClient, model: str, query: str, sampler: SamplerName
) -> None:
    """The distribution itself gives the same latents; without a name it is the model's first one."""
    network = bent(MODELS[model])
    temperature = 0.5 if "temperature" in query else 1.0
    latents = network.sample(temperature * standard_normal(7, 3, (3,)), sampler)
    expected = to_pixels(network.decode(latents).mean).permute(0, 2, 3, 1).numpy()

    found = await samples(client, model, query)

    assert np.abs(found.astype(int) - expected).max() <= 1


@pytest.mark.parametrize("model", ["flow", "mixture", "ae"])
async def test_image_depends_on_the_seed_and_its_number_alone(client: httpx.AsyncClient, model: str) -> None:
    """One image, and the first of many, are the same bytes."""
    one, many = await samples(client, model, n=1), await samples(client, model, n=40)

    assert (one[0] == many[0]).all()
    assert (await samples(client, model, n=40) == many).all()


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("both/sample?sampler=flow", "both@1 has no sampler flow; ask for sampler=prior or mixture"),
        ("ae/sample?sampler=prior", "ae@1 has no sampler prior; ask for sampler=flow or mixture"),
        ("ae-plain/sample?sampler=flow", "which has no prior to draw from"),
        ("ae-plain/sample", "fit a sampler with python -m training.fit_prior"),
        ("both/sample?sampler=gaussian", "sampler"),
    ],
)
@pytest.mark.usefixtures("unharmed")
async def test_sampler_that_a_model_lacks_is_422_and_names_its_samplers(
    client: httpx.AsyncClient, path: str, reason: str
) -> None:
    """The message says what to ask for instead, also to a client that claims to hold the answer."""
    response = await client.get(f"/v1/models/{path}", headers={"If-None-Match": "*"})

    assert response.status_code == 422
    assert reason in response.json()["detail"]


async def test_samplers_are_listed(client: httpx.AsyncClient) -> None:
    """The first is the default; a model that cannot sample has none."""
    models = (await ok(await client.get("/v1/models"))).json()["models"]
    found = {model["model"]: (model["samplers"], "sample" in model["operations"]) for model in models}

    assert found["ae"] == (["flow", "mixture"], True)
    assert found["ae-plain"] == ([], False)
    assert found["both"] == (["prior", "mixture"], True)
    assert found["flow"] == (["prior"], True)


async def test_samplers_have_tags_of_their_own(client: httpx.AsyncClient) -> None:
    """A cache never gives the sample of another sampler."""
    address = "/v1/models/both@1/sample?seed=7&sampler="
    tags = [(await ok(await client.get(address + name))).headers["etag"] for name in ("prior", "mixture")]
    again = await client.get(address + "mixture", headers={"If-None-Match": tags[1]})

    assert tags[0] != tags[1]
    assert again.status_code == 304


@pytest.mark.parametrize("model", ["flow", "mixture"])
async def test_score_is_the_number_of_trainings_evaluation(client: httpx.AsyncClient, model: str) -> None:
    """The same seed gives the same KL by draws and the same bounds, and the protocol says so."""
    images = np.random.default_rng(0).integers(0, 256, (20, 8, 8), dtype=np.uint8)
    expected = evaluated(bent(MODELS[model]), torch.from_numpy(images).unsqueeze(1), draws=5, seed=3)

    address = f"/v1/models/{model}/score?seed=3&importance_samples=5"
    answer = (await ok(await client.post(address, content=npy(images), headers=NPY))).json()

    for name in ("elbo_nats", "kl_nats", "importance_weighted_nats"):
        torch.testing.assert_close(torch.tensor(answer[name]), getattr(expected, name).float(), atol=1e-3, rtol=1e-5)
    assert f"the KL to the {model} by the posterior draws" in answer["protocol"]


@pytest.mark.parametrize("model", ["flow", "mixture"])
async def test_interpolation_ends_where_its_images_are(client: httpx.AsyncClient, model: str) -> None:
    """The path goes through normal coordinates and back: its first image is the reconstruction of its first end."""
    pair = np.random.default_rng(1).integers(0, 256, (2, 8, 8), dtype=np.uint8)
    between, rebuilt = [
        read_npy(await ok(await client.post(f"/v1/models/{model}/{path}", content=npy(pair), headers=NPY)))
        for path in ("interpolate?steps=5&format=npy", "reconstruct?format=npy")
    ]

    assert np.abs(between[[0, -1]].astype(int) - rebuilt).max() <= 1


@pytest.mark.usefixtures("unharmed")
async def test_path_that_leaves_the_numbers_of_float32_is_422(client: httpx.AsyncClient) -> None:
    """A flow can bring latents, which no image has, out of all bounds; the fault is the client's."""
    response = await client.post("/v1/models/steep/interpolate", json={"latents": [[0.1, 0.2, 0.3], [9e3, -9e3, 9e3]]})

    assert response.status_code == 422
    assert "send latents that encode gave" in response.json()["detail"]


@pytest.mark.parametrize("query", ["", "&seed=3"])
@pytest.mark.parametrize("model", ["flow", "mixture", "ae", "both"])
async def test_traversal_begins_at_a_latent_of_the_distribution(
    client: httpx.AsyncClient, model: str, query: str
) -> None:
    """The middle column is the same in each row: the middle of the distribution, or a draw from it."""
    address = f"/v1/models/{model}/traverse?dims=0,2&steps=3&format=npy{query}"
    images = read_npy(await ok(await client.get(address)))

    assert (images[1] == images[4]).all()
    assert (images[0] != images[3]).any()


async def test_encode_gives_latents_that_decode_takes(client: httpx.AsyncClient) -> None:
    """Under a learned prior latents are the posterior's own numbers."""
    encoded = (await ok(await client.post("/v1/models/flow/encode", content=picture(), headers=PNG))).json()

    assert encoded["latents"] == encoded["mean"]
    await ok(await client.post("/v1/models/flow/decode", json={"latents": encoded["latents"]}))
