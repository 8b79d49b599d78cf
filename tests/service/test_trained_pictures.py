"""The service reads pictures as the training has read them: on the same background, and inverted if they were."""

import io
from collections.abc import AsyncIterator

import httpx
import numpy as np
import pytest
from PIL import Image

from model_store import DataSummary, Store, TrainingSummary
from service.settings import Settings

from ..conftest import GREY, make_model
from .conftest import running

pytestmark = pytest.mark.anyio

PNG = {"Content-Type": "image/png"}
RULES: dict[str, dict[str, object]] = {
    "plain": {},
    "white": {"background": "white"},
    "negative": {"invert": True},
    "both": {"background": "white", "invert": True},
}
NPY = {"Content-Type": "application/x-npy"}


def trained(**rules: object) -> TrainingSummary:
    """The part of a card about a training with these rules for pictures."""
    data = DataSummary.model_validate(
        {"name": "none", "train_images": 1, "validation_images": 1, "test_images": 1, "sha256": "0", "resize": "none"}
        | rules
    )
    return TrainingSummary(
        recipe={}, data=data, seed=0, git_commit=None, epochs=1, best_epoch=1, seconds=1.0, device="cpu", torch="2"
    )


@pytest.fixture
async def models(settings: Settings, store: Store) -> AsyncIterator[httpx.AsyncClient]:
    """A service with the same network four times, of which each has other rules for pictures."""
    for name, rules in RULES.items():
        store.publish(name, make_model(GREY), training=trained(**rules))
    async with running(settings) as (_, client):
        yield client


async def answer(client: httpx.AsyncClient, path: str, body: bytes, kind: dict[str, str] = PNG) -> httpx.Response:
    """The answer of an operation, which must be a success."""
    response = await client.post(f"/v1/models/{path}", content=body, headers=kind)
    assert response.status_code == 200, response.text
    return response


def png(picture: Image.Image) -> bytes:
    """The bytes of a picture."""
    buffer = io.BytesIO()
    picture.save(buffer, "PNG")
    return buffer.getvalue()


def npy(array: np.ndarray) -> bytes:
    """The bytes of an array."""
    buffer = io.BytesIO()
    np.save(buffer, array)
    return buffer.getvalue()


@pytest.fixture
def noise() -> np.ndarray:
    """A grey picture, uint8 (8, 8)."""
    return np.random.default_rng(0).integers(0, 256, (8, 8), np.uint8)


async def test_background_of_the_training_is_behind_transparent_pixels(models: httpx.AsyncClient) -> None:
    """A transparent picture is white for a model that was trained so, and black for the other."""
    clear = png(Image.new("RGBA", (8, 8), (0, 0, 0, 0)))
    filled = {name: png(Image.new("L", (8, 8), name)) for name in ("black", "white")}

    for name, colour in (("plain", "black"), ("white", "white")):
        given = (await answer(models, f"{name}/encode", clear)).json()["mean"]
        assert given == (await answer(models, f"{name}/encode", filled[colour])).json()["mean"]


async def test_background_of_the_training_is_around_padded_pictures(models: httpx.AsyncClient) -> None:
    """A white line is all white after `resize=contain` on white."""
    line, white = (png(Image.new("L", size, "white")) for size in ((8, 1), (8, 8)))

    given = (await answer(models, "white/encode?resize=contain", line)).json()["mean"]

    assert given == (await answer(models, "white/encode", white)).json()["mean"]


@pytest.mark.parametrize("kind", ["picture", "array"])
async def test_inverted_model_encodes_the_negative(models: httpx.AsyncClient, noise: np.ndarray, kind: str) -> None:
    """Pictures and arrays follow the same rule."""
    bodies = [png(Image.fromarray(each)) if kind == "picture" else npy(each[None]) for each in (noise, 255 - noise)]
    headers = PNG if kind == "picture" else NPY
    first = (await answer(models, "negative/encode", bodies[0], headers)).json()

    assert first["mean"] == (await answer(models, "plain/encode", bodies[1], headers)).json()["mean"]


@pytest.mark.parametrize("output", ["npy", "png"])
async def test_inverted_model_answers_in_the_colours_of_the_client(
    models: httpx.AsyncClient, noise: np.ndarray, output: str
) -> None:
    """The reconstruction of a negative is the negative of the reconstruction, so that it looks like what was sent."""
    contents = [
        (await answer(models, f"{name}/reconstruct?format={output}", png(Image.fromarray(each)))).content
        for name, each in (("negative", noise), ("plain", 255 - noise))
    ]
    given, inner = (
        np.load(io.BytesIO(each)).squeeze() if output == "npy" else np.asarray(Image.open(io.BytesIO(each)))
        for each in contents
    )

    assert np.abs(given.astype(int) - (255 - inner)).max() <= 1
    assert given.std() > 0


async def test_inverted_model_measures_the_same_distortion_and_score(
    models: httpx.AsyncClient, noise: np.ndarray
) -> None:
    """The negative of an image is as far from the negative of its reconstruction, and as likely."""
    one, other = png(Image.fromarray(noise)), png(Image.fromarray(255 - noise))
    errors = [
        (await answer(models, f"{name}/reconstruct?format=json", each)).json()["mse"]
        for name, each in (("negative", one), ("plain", other))
    ]
    scores = [
        (await answer(models, f"{name}/score?seed=1", each)).json()["elbo_nats"]
        for name, each in (("negative", one), ("plain", other))
    ]

    assert errors[0] == pytest.approx(errors[1], rel=1e-4)
    assert scores[0] == pytest.approx(scores[1], rel=1e-5)


async def test_samples_of_an_inverted_model_are_negatives(models: httpx.AsyncClient) -> None:
    """A picture that the service has drawn can be sent back to it."""
    drawn = [
        np.load(io.BytesIO((await models.get(f"/v1/models/{name}/sample?seed=3&n=2&format=npy")).content))
        for name in ("negative", "plain")
    ]

    assert np.abs(drawn[0].astype(int) - (255 - drawn[1])).max() <= 1


async def test_padding_is_inverted_with_its_picture(models: httpx.AsyncClient) -> None:
    """White padding around a white line is black for the network, as in the training."""
    line, black = png(Image.new("L", (8, 1), "white")), png(Image.new("L", (8, 8), "black"))

    given = (await answer(models, "both/encode?resize=contain", line)).json()["mean"]

    assert given == (await answer(models, "plain/encode", black)).json()["mean"]
