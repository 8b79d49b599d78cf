"""Every family passes this suite: import, each operation, tiles and Remote VAE, beside the network without a server."""

import io
from collections.abc import AsyncIterator
from math import log10

import httpx
import numpy as np
import pytest
import safetensors.torch
import torch
from PIL import Image
from torch import Tensor

from model_store import Store
from model_store.__main__ import main
from model_store.families import Network
from model_store.vae import DiagonalGaussian
from model_store.vae.family import OPERATIONS
from model_store.vae.noise import standard_normal
from model_store.vae.pixels import to_images
from service.settings import Settings

from ..conftest import COLOUR, make_model
from ..model_store.importing.conftest import save_pair, tiny
from ..model_store.library_models import SETTINGS, library_model
from .conftest import running

pytestmark = pytest.mark.anyio

LIBRARY = {name.lower(): name for name in sorted(SETTINGS)}
ANY_SIZE = ["tiny", "tiny-norm", *LIBRARY]
NAMES = ["ours", *ANY_SIZE]
SAFETENSORS = {"Content-Type": "application/vnd.safetensors"}
NPY = {"Content-Type": "application/x-npy"}


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """A store with a model of each kind; models of other programs came through the command `import`."""
    root = tmp_path_factory.mktemp("families")
    store, pictures = Store(root / "store"), root / "pictures"
    store.publish("ours", make_model(COLOUR))
    pictures.mkdir()
    Image.new("RGB", (64, 64), (200, 80, 40)).save(pictures / "one.png")
    for name in ANY_SIZE:
        if name in LIBRARY:
            library_model(LIBRARY[name]).save_pretrained(root / name)
        else:
            save_pair(root / name, tiny(has_middle_norm=name == "tiny-norm"))
        arguments = ["import", str(root / name), "--name", name, "--pictures", str(pictures), "--latent-space", name]
        assert main([*arguments, "--store", str(store.root)]) == 0
    return store


@pytest.fixture(params=NAMES)
def name(request: pytest.FixtureRequest) -> str:
    """Each model in turn."""
    return str(request.param)


@pytest.fixture
def network(store: Store, name: str) -> Network:
    """The model's network, in float32."""
    return store.load(store.resolve(name)).model.float().eval().requires_grad_(False)


@pytest.fixture
async def client(store: Store, settings: Settings) -> AsyncIterator[httpx.AsyncClient]:
    """A client of a service that computes in float32."""
    changed = {"dtype": "float32", "max_pixels": 60_000, "max_request_pixels": 200_000, "max_body_bytes": 300_000}
    async with running(settings, store=store.root, default_model="ours", **changed) as (_, client):
        yield client


def pixels_for(network: Network) -> Tensor:
    """Two smooth pictures uint8 (2, 3, H, W) whose sides differ, if the model takes many sizes."""
    height, width = (64, 96) if network.config.takes_any_size else network.config.example_shape[1:]
    rows, columns = torch.meshgrid(torch.linspace(0, 1, height), torch.linspace(0, 1, width), indexing="ij")
    one = torch.stack([rows, columns, (rows + columns) / 2])
    return (torch.stack([one, one.flip(0)]) * 255).to(torch.uint8)


def as_npy(tensor: Tensor) -> bytes:
    """The bytes of npy."""
    buffer = io.BytesIO()
    np.save(buffer, tensor.numpy())
    return buffer.getvalue()


def tensors_in(answer: httpx.Response) -> dict[str, Tensor]:
    """The tensors of a good answer in safetensors."""
    assert answer.status_code == 200, answer.text
    return safetensors.torch.load(answer.content)


def in_db(found: Tensor, expected: Tensor) -> float:
    """The PSNR of images in [0, 1]."""
    return -10 * log10(max(float((found - expected).square().mean()), 1e-12))


async def test_model_is_listed_with_what_it_can(client: httpx.AsyncClient, network: Network, name: str) -> None:
    """The list has the shapes, the latent space and the operations of the family."""
    listed = {each["model"]: each for each in (await client.get("/v1/models")).json()["models"]}[name]

    assert tuple(listed["image_shape"]) == network.config.image_shape
    assert tuple(listed["latent_shape"]) == network.config.latent_shape
    assert listed["latent_space"] == name
    assert listed["operations"] == [operation for operation in OPERATIONS if operation in network.config.can]


async def test_latents_are_those_of_the_network(client: httpx.AsyncClient, network: Network, name: str) -> None:
    """The mode of the posterior, and its log-variance if it has one."""
    pixels = pixels_for(network)
    posterior = network.encode(to_images(pixels))
    body = as_npy(pixels.permute(0, 2, 3, 1).contiguous())

    found = tensors_in(await client.post(f"/v1/models/{name}/encode?format=safetensors", content=body, headers=NPY))

    torch.testing.assert_close(found["mean"], posterior.mean, rtol=1e-4, atol=1e-5)
    if isinstance(posterior, DiagonalGaussian):
        torch.testing.assert_close(found["log_variance"], posterior.log_variance, rtol=1e-4, atol=1e-4)
    assert ("log_variance" in found) == isinstance(posterior, DiagonalGaussian)


async def test_seeded_sample_is_that_of_the_posterior(client: httpx.AsyncClient, network: Network, name: str) -> None:
    """The mean and the standard deviation times the noise of the seed; a point is its own sample."""
    pixels = pixels_for(network)
    posterior = network.encode(to_images(pixels))
    query = "latents=sample&seed=5&format=safetensors"
    body = as_npy(pixels.permute(0, 2, 3, 1).contiguous())

    found = tensors_in(await client.post(f"/v1/models/{name}/encode?{query}", content=body, headers=NPY))

    expected = posterior.mean
    if isinstance(posterior, DiagonalGaussian):
        noise = standard_normal(5, len(pixels), tuple(posterior.mean.shape[1:]))
        expected = posterior.mean + (posterior.log_variance / 2).exp() * noise
    torch.testing.assert_close(found["latents"], expected, rtol=1e-4, atol=1e-4)


async def test_images_are_those_of_the_network(client: httpx.AsyncClient, network: Network, name: str) -> None:
    """Decode gives the network's images, and Remote VAE gives the same."""
    latents = network.encode(to_images(pixels_for(network))).mean
    expected = network.decode(latents).mean
    body = safetensors.torch.save({"latents": latents.contiguous()})
    query: dict[str, str | list[str]] = {
        "shape": [str(side) for side in latents.shape],
        "dtype": "float32",
        "do_scaling": "false",
        "output_type": "pt",
    }

    found = await client.post(f"/v1/models/{name}/decode?format=safetensors", content=body, headers=SAFETENSORS)
    remote = await client.post(f"/v1/models/{name}/remote/decode", params=query, content=latents.numpy().tobytes())

    torch.testing.assert_close(tensors_in(found)["images"], expected, rtol=1e-4, atol=1e-4)
    assert remote.status_code == 200, remote.text
    signed = torch.frombuffer(bytearray(remote.content), dtype=torch.float32).reshape(expected.shape)
    torch.testing.assert_close(signed, expected * 2 - 1, rtol=1e-4, atol=2e-4)


async def test_remote_latents_are_those_of_the_network(client: httpx.AsyncClient, network: Network, name: str) -> None:
    """The picture comes as `remote_encode` sends it."""
    pixels = pixels_for(network)[:1]
    buffer = io.BytesIO()
    Image.fromarray(pixels[0].permute(1, 2, 0).numpy()).save(buffer, "PNG")
    expected = network.encode(to_images(pixels)).mean

    answer = await client.post(f"/v1/models/{name}/remote/encode?do_scaling=false", content=buffer.getvalue())

    assert answer.status_code == 200, answer.text
    found = torch.frombuffer(bytearray(answer.content), dtype=torch.float32).reshape(expected.shape)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


async def test_reconstructions_are_decoded_latents(client: httpx.AsyncClient, network: Network, name: str) -> None:
    """Reconstruct is encode and decode in one request."""
    pixels = pixels_for(network)
    expected = network.decode(network.encode(to_images(pixels)).mean).mean
    body = as_npy(pixels.permute(0, 2, 3, 1).contiguous())

    found = await client.post(f"/v1/models/{name}/reconstruct?format=safetensors", content=body, headers=NPY)

    torch.testing.assert_close(tensors_in(found)["images"], expected, rtol=1e-4, atol=1e-4)


async def test_images_between_two_latents_begin_and_end_with_theirs(
    client: httpx.AsyncClient, network: Network, name: str
) -> None:
    """Interpolate works on grids of latents too."""
    latents = network.encode(to_images(pixels_for(network))).mean
    body = safetensors.torch.save({"latents": latents.contiguous()})

    query = "steps=3&format=safetensors"
    found = await client.post(f"/v1/models/{name}/interpolate?{query}", content=body, headers=SAFETENSORS)

    images = tensors_in(found)["images"]
    torch.testing.assert_close(images[[0, -1]], network.decode(latents).mean, rtol=1e-3, atol=1e-3)
    assert len(images) == 3


async def test_operations_that_have_no_meaning_say_why(client: httpx.AsyncClient, network: Network, name: str) -> None:
    """Sample, score and traverse answer, or are refused with the reason of the family."""
    picture = as_npy(pixels_for(network).permute(0, 2, 3, 1).contiguous())
    answers = {
        "sample": await client.get(f"/v1/models/{name}/sample?n=1"),
        "traverse": await client.get(f"/v1/models/{name}/traverse?dims=0&steps=3"),
        "score": await client.post(f"/v1/models/{name}/score", content=picture, headers=NPY),
    }

    for operation, answer in answers.items():
        lack = next(network.config.lacks(each) for each in OPERATIONS if each == operation)
        assert answer.status_code == (200 if lack is None else 422), answer.text
        assert lack is None or (lack.reason in answer.json()["detail"] and lack.remedy in answer.json()["detail"])


@pytest.mark.parametrize("name", ANY_SIZE, indirect=True)
async def test_tiles_give_nearly_the_whole(client: httpx.AsyncClient, network: Network, name: str) -> None:
    """Exactly where the overlap covers the neighbourhood, and else without a visible seam."""
    large = pixels_for(network)[:1].repeat_interleave(3, 2).repeat_interleave(2, 3)
    latents = network.encode(to_images(large)).mean
    expected = network.decode(latents).mean
    body = safetensors.torch.save({"latents": latents.contiguous()})

    query = "tile=64&format=safetensors"
    answer = await client.post(f"/v1/models/{name}/decode?{query}", content=body, headers=SAFETENSORS)

    found = tensors_in(answer)["images"]
    told = answer.headers["X-Tiling"]
    assert told.startswith("3x3; overlap=")
    assert ("exact=true" in told) == name.startswith("tiny")
    assert in_db(found, expected) > (90 if name.startswith("tiny") else 30)


async def test_model_of_one_size_is_never_tiled(client: httpx.AsyncClient) -> None:
    """The refusal says so."""
    body = safetensors.torch.save({"latents": torch.zeros(1, *COLOUR.latent_shape)})

    answer = await client.post("/v1/models/ours/decode?tile=64", content=body, headers=SAFETENSORS)

    assert answer.status_code == 422
    assert "takes one size only" in answer.json()["detail"]
