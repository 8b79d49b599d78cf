"""Faults below an operation: an image of a batch, the memory of the device, the device. Others are answered."""

import asyncio
import re
from collections.abc import Callable

import httpx
import pytest
import torch
from fastapi import FastAPI
from torch import Tensor

from service.compute.batch_plan import BatchPlan
from service.compute.rows import Rows, concatenate

from .conftest import check_unharmed
from .wire import NPY, npy

pytestmark = pytest.mark.anyio

POISON = 666.0
Break = Callable[[Tensor], None]


@pytest.fixture(autouse=True)
def timeless(app: FastAPI) -> None:
    """Give the default model batches of several images, even if the machine was slow at the warm-up.

    The images are computed one by one, so that all batch sizes agree on every processor.
    """
    runner = app.state.parts.registry.find(None).runner
    runner.plans = {operation: BatchPlan(dict.fromkeys((1, 2, 4, 8), 0.0)) for operation in runner.plans}
    render = runner.forward_passes["render"]

    def one_by_one(latents: Tensor) -> Rows:
        return concatenate([render(row.clone()) for row in latents.split(1)])

    runner.forward_passes = {**runner.forward_passes, "render": one_by_one}


def decode_with(app: FastAPI, broken: Break, *, poison: bool = False) -> list[int]:
    """Call a function with the rows of each batch before the default model's decoder; return the numbers of rows."""
    runner = app.state.parts.registry.find(None).runner
    compute, batches = runner.forward_passes["render"], []

    def wrapped(latents: Tensor) -> tuple[Tensor, ...]:
        broken(latents)
        batches.append(len(latents))
        images, finite = compute(latents)
        return images, finite & ~(latents[:, 0] == POISON) if poison else finite

    runner.forward_passes = {**runner.forward_passes, "render": wrapped}
    return batches


async def decode(client: httpx.AsyncClient, *first: float) -> list[httpx.Response]:
    """Send a request for each latent, all at the same time."""
    bodies = [npy(torch.tensor([[value, 0.0, 0.0]]).numpy()) for value in first]
    return await asyncio.gather(*(client.post("/v1/decode", content=body, headers=NPY) for body in bodies))


async def metric(client: httpx.AsyncClient, name: str) -> float:
    """The value of a metric at /metrics."""
    return float(re.findall(rf"(?m)^{re.escape(name)} (\S+)$", (await client.get("/metrics")).text)[0])


async def test_one_poisoned_image_of_eight_fails_alone(app: FastAPI, client: httpx.AsyncClient) -> None:
    """The other requests get the same pictures as without it."""
    alone = [answer.content for answer in await decode(client, *range(7))]
    batches = decode_with(app, lambda _: None, poison=True)
    *good, bad = await decode(client, *range(7), POISON)

    assert max(batches) > 1
    assert (bad.status_code, bad.json()["type"]) == (500, "urn:latentd:problem:not-finite")
    assert [answer.content for answer in good] == alone
    await check_unharmed(client)


async def test_image_whose_computation_raises_fails_alone(app: FastAPI, client: httpx.AsyncClient) -> None:
    """The request gets a 500, since the client is not at fault; the others of the batch get their pictures."""

    def raise_at_poison(latents: Tensor) -> None:
        batches.append(len(latents))
        assert not (latents[:, 0] == POISON).any(), "poisoned"

    batches: list[int] = []
    alone = [answer.content for answer in await decode(client, *range(7))]
    decode_with(app, raise_at_poison)
    *good, bad = await decode(client, *range(7), POISON)

    assert max(batches) > 1
    assert bad.status_code == 500
    assert [answer.content for answer in good] == alone
    await check_unharmed(client)


async def test_batch_that_does_not_fit_is_halved_until_it_does(app: FastAPI, client: httpx.AsyncClient) -> None:
    """Every request is answered, and the metric counts the splits."""

    def fits_two(latents: Tensor) -> None:
        if len(latents) > 2:
            raise torch.OutOfMemoryError

    alone = [answer.content for answer in await decode(client, *range(8))]
    decode_with(app, fits_two)
    answers = await decode(client, *range(8))

    assert [answer.content for answer in answers] == alone
    assert await metric(client, "latentd_oom_splits_total") >= 1
    await check_unharmed(client)


async def test_not_even_one_image_fits(app: FastAPI, client: httpx.AsyncClient) -> None:
    """The answer is 503 with Retry-After, since the next request may fit."""

    def fits_none(_: Tensor) -> None:
        raise torch.OutOfMemoryError

    runner = app.state.parts.registry.find(None).runner
    whole = runner.forward_passes
    decode_with(app, fits_none)
    refused = await decode(client, *range(4))
    runner.forward_passes = whole
    answered = await decode(client, *range(4))

    assert {(answer.status_code, answer.headers["retry-after"]) for answer in refused} == {(503, "1")}
    assert {answer.status_code for answer in answered} == {200}
    await check_unharmed(client)


async def test_device_side_assert_loses_the_device(app: FastAPI, client: httpx.AsyncClient) -> None:
    """Every request of the batch and every later request is told; /readyz is red at once."""

    def assert_on_device(_: Tensor) -> None:
        raise torch.AcceleratorError("CUDA error: device-side assert triggered")

    decode_with(app, assert_on_device)
    answers = await decode(client, *range(4))

    assert {answer.json()["type"] for answer in answers} == {"urn:latentd:problem:device-lost"}
    assert (await client.get("/v1/sample")).status_code == 503
    assert (await client.get("/readyz")).status_code == 503
    assert (await client.get("/livez")).status_code == 200
