"""Too many requests, too little time, clients that hang up, and a device that fails."""

import asyncio
import re
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from typing import Any, Never

import httpx
import pytest
import torch
from fastapi import FastAPI
from starlette.types import Message

from service.compute.batch_plan import BatchPlan
from service.compute.rows import Rows
from service.formats import pictures
from service.inference.served_model import BatchKey, ServedModel
from service.operations import noise
from service.settings import Settings

from .conftest import check_unharmed, running
from .wire import PNG, multipart, picture

pytestmark = pytest.mark.anyio


class Gate:
    """Stands in front of a model's runner, and lets batches pass after it is opened."""

    def __init__(self, model: ServedModel) -> None:
        self._run = model.batcher.run
        self._open = asyncio.Event()
        self.batches = 0
        model.batcher.run = self

    async def __call__(self, key: BatchKey, payloads: Sequence[Rows]) -> Sequence[Rows | Exception]:
        self.batches += 1
        await self._open.wait()
        return await self._run(key, payloads)

    def open(self) -> None:
        self._open.set()


def hold_up(model: ServedModel, forward_pass: str, turn: int) -> list[str]:
    """Let a forward pass never end when it begins for the `turn`-th time; return the names of all that begin."""
    run = model.batcher.run
    begun: list[str] = []

    async def held_up(key: BatchKey, payloads: Sequence[Rows]) -> Sequence[Rows | Exception]:
        begun.append(key.forward_pass)
        await asyncio.Event().wait() if begun.count(forward_pass) == turn else None
        return await run(key, payloads)

    model.batcher.run = held_up
    return begun


@pytest.fixture
def gate(app: FastAPI) -> Gate:
    """A closed gate in front of the default model."""
    return Gate(app.state.parts.registry.find(None))


async def waiting(app: FastAPI, images: int) -> None:
    """Return when this many images are in the queue of the default model."""
    batcher = app.state.parts.registry.find(None).batcher
    while batcher.waiting_images != images:
        await asyncio.sleep(0)


async def fill(app: FastAPI, client: httpx.AsyncClient, gate: Gate) -> list[asyncio.Task[httpx.Response]]:
    """Send requests until the queue has no room for 16 images more: one is at the gate, three are in the queue."""
    computing = asyncio.create_task(client.get("/v1/sample"))
    while not gate.batches:
        await asyncio.sleep(0)
    queued = [asyncio.create_task(client.get("/v1/sample?n=16")) for _ in range(3)]
    await waiting(app, 48)
    return [computing, *queued]


async def test_full_queue_is_429_with_a_whole_number_of_seconds(
    app: FastAPI, client: httpx.AsyncClient, gate: Gate
) -> None:
    """The refusal comes at once, while others wait; the requests in the queue are answered."""
    others = await fill(app, client, gate)

    refused = await client.get("/v1/sample?n=16")
    gate.open()

    assert refused.status_code == 429
    assert re.fullmatch("[1-9][0-9]*", refused.headers["retry-after"])
    assert [response.status_code for response in await asyncio.gather(*others)] == [200] * 4
    await check_unharmed(client)


async def test_client_whose_share_of_the_queue_is_full_leaves_room_for_another(settings: Settings) -> None:
    """A client is its key. The other client's single request is in the next batch."""
    first, second = ({"Authorization": f"Bearer {key}"} for key in ("first", "second"))
    async with running(settings, api_keys="first, second") as (app, client):
        gate = Gate(app.state.parts.registry.find(None))
        client.headers = httpx.Headers(first)
        others = await fill(app, client, gate)
        refused = await client.get("/v1/sample?n=16")
        good = asyncio.create_task(client.get("/v1/sample", headers=second))
        await waiting(app, 49)
        gate.open()
        answers = await asyncio.gather(good, *others)

    assert refused.status_code == 429
    assert refused.json()["detail"].startswith("The queue is full for this client: it has 48 images there")
    assert [answer.status_code for answer in answers] == [200] * 5


async def test_pictures_that_find_no_room_are_not_decoded(
    app: FastAPI, client: httpx.AsyncClient, gate: Gate, monkeypatch: pytest.MonkeyPatch
) -> None:
    """For samples no noise is drawn either: work that would be lost is not begun."""
    others = await fill(app, client, gate)
    done: list[str] = []
    monkeypatch.setattr(pictures, "decode", lambda *_: done.append("decode"))
    monkeypatch.setattr(noise, "standard_normal", lambda *_, **__: done.append("draw"))

    refused = [
        await client.post("/v1/encode", **multipart(*[picture()] * 16)), await client.get("/v1/sample?n=16&seed=7"),
    ]  # fmt: skip
    monkeypatch.undo()
    gate.open()
    await asyncio.gather(*others)

    assert [answer.status_code for answer in refused] == [429, 429]
    assert done == []
    await check_unharmed(client)


async def test_deadline_is_504_and_what_was_not_begun_is_not_computed(settings: Settings) -> None:
    """The queue is empty afterwards."""
    async with running(settings, timeout_s=0.2) as (app, client):
        gate = Gate(app.state.parts.registry.find(None))
        responses = await asyncio.gather(*(client.get("/v1/sample") for _ in range(3)))
        batcher = app.state.parts.registry.find(None).batcher

        assert [response.status_code for response in responses] == [504] * 3
        assert "within 0.2 s" in responses[0].json()["detail"]
        assert (batcher.waiting_images, gate.batches) == (0, 1)
        await check_unharmed(client)


PAIR = {"latents": [[0, 0, 0], [1, 1, 1]]}
SLOW: Mapping[str, tuple[dict[str, Any], str]] = {
    "encode": ({"method": "POST", "content": picture(), "headers": PNG}, "send fewer images"),
    "decode": ({"method": "POST", "json": PAIR}, "send fewer latents"),
    "sample": ({"method": "GET"}, "ask for a smaller n"),
    "reconstruct": ({"method": "POST", "content": picture(), "headers": PNG}, "send fewer images"),
    "score": ({"method": "POST", "content": picture(), "headers": PNG}, "ask for fewer importance_samples"),
    "interpolate": ({"method": "POST", "json": PAIR}, "ask for fewer steps"),
    "traverse": ({"method": "GET", "params": {"steps": 3}}, "ask for fewer steps or dims"),
}  # fmt: skip


@pytest.mark.parametrize("operation", SLOW)
async def test_remedy_for_a_passed_deadline_fits_the_operation(settings: Settings, operation: str) -> None:
    """The message asks the client to send less of something that the operation takes."""
    request, remedy = SLOW[operation]
    async with running(settings, timeout_s=0.05) as (app, client):
        Gate(app.state.parts.registry.find(None))
        response = await client.request(url=f"/v1/{operation}", **request)

    assert response.status_code == 504, response.text
    assert f"within 0.05 s; try again, or {remedy}" in response.json()["detail"]


async def test_deadline_is_of_the_whole_answer(settings: Settings) -> None:
    """Reconstruct takes two forward passes; the deadline does not start again with the second."""
    async with running(settings, timeout_s=2) as (app, client):
        begun = hold_up(app.state.parts.registry.find(None), "render", turn=1)
        response = await client.post("/v1/reconstruct", content=picture(), headers=PNG)

    assert response.status_code == 504
    assert begun == ["encode", "render"]


async def test_small_request_overtakes_the_rest_of_a_large_one(
    app: FastAPI, client: httpx.AsyncClient, gate: Gate, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A large request is computed in parts, and other requests are computed between the parts."""
    plans = app.state.parts.registry.find(None).runner.plans
    monkeypatch.setitem(plans, "render", BatchPlan({8: 0.0}))
    finished: list[int] = []

    async def drawn(n: int) -> None:
        assert (await client.get(f"/v1/sample?n={n}")).status_code == 200
        finished.append(n)

    large = asyncio.create_task(drawn(16))
    while not gate.batches:
        await asyncio.sleep(0)
    small = asyncio.create_task(drawn(1))
    await waiting(app, 9)
    gate.open()
    await asyncio.gather(large, small)

    assert finished == [1, 16]
    assert gate.batches == 3


async def test_deadline_ends_a_score_between_its_draws(settings: Settings) -> None:
    """The first draws are dropped, the others are not computed, and the queue is empty."""
    async with running(settings, timeout_s=2) as (app, client):
        model = app.state.parts.registry.find(None)
        begun = hold_up(model, "score", turn=2)
        response = await client.post("/v1/score?importance_samples=300", content=picture(), headers=PNG)

    assert response.status_code == 504
    assert begun == ["encode", "score", "score"]
    assert model.batcher.waiting_images == 0


async def call_and_hang_up(app: FastAPI, hang_up: asyncio.Event) -> None:
    """Ask for a sample, and hang up when the event is set."""
    scope = {
        "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": "GET", "scheme": "http",
        "path": "/v1/sample", "raw_path": b"/v1/sample", "query_string": b"", "headers": [], "root_path": "",
        "server": ("latentd", 80), "client": ("caller", 1),
    }  # fmt: skip
    messages: Iterator[Message] = iter([{"type": "http.request", "body": b"", "more_body": False}])

    async def receive() -> Message:
        if message := next(messages, None):
            return message
        await hang_up.wait()
        return {"type": "http.disconnect"}

    async def send(message: Message) -> None:
        pass

    await app(scope, receive, send)


async def test_client_that_hung_up_costs_no_computation(app: FastAPI, client: httpx.AsyncClient, gate: Gate) -> None:
    """The place in the queue becomes free, and the model never computes the image."""
    hang_up = asyncio.Event()
    computing = asyncio.create_task(client.get("/v1/sample"))
    while not gate.batches:
        await asyncio.sleep(0)
    leaving = asyncio.create_task(call_and_hang_up(app, hang_up))
    await waiting(app, 1)

    hang_up.set()
    await leaving
    await waiting(app, 0)
    gate.open()
    await computing

    assert gate.batches == 1
    assert 'code="499"' in (await client.get("/metrics")).text
    await check_unharmed(client)


async def test_body_that_does_not_arrive_is_408(settings: Settings) -> None:
    """The message names the time limit."""

    async def slow() -> AsyncIterator[bytes]:
        yield picture()[:10]
        await asyncio.Event().wait()

    async with running(settings, body_timeout_s=0.02) as (_, client):
        response = await client.post("/v1/encode", content=slow(), headers=PNG)

    assert response.status_code == 408
    assert "within 0.02 s" in response.json()["detail"]


async def test_lost_device_is_503_and_not_ready(app: FastAPI, client: httpx.AsyncClient) -> None:
    """An orchestrator sends requests elsewhere; /livez still answers 200."""

    async def fail(key: BatchKey, payloads: Sequence[Rows]) -> object:
        def lose() -> Never:
            raise torch.AcceleratorError("an illegal memory access was encountered")

        return await app.state.parts.registry.device.call(lose)

    app.state.parts.registry.find(None).batcher.run = fail
    answer = await client.get("/v1/sample")
    ready, alive = await client.get("/readyz"), await client.get("/livez")

    assert (answer.status_code, answer.headers["retry-after"]) == (503, "10")
    assert (ready.status_code, ready.json()["type"]) == (503, "urn:latentd:problem:device-lost")
    assert alive.status_code == 200
