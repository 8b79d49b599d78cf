"""The memory for answers: known before they are computed, bounded for all together, and returned at every end."""

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from starlette.types import Message

from service.http.back_pressure import PIECE_BYTES
from service.memory import SMALL_BYTES
from service.operations import noise, score
from service.settings import Settings

from ..conftest import check_unharmed, running
from ..test_load import Gate
from ..wire import JSON, NPY, PNG, multipart, picture

pytestmark = pytest.mark.anyio

Service = tuple[FastAPI, httpx.AsyncClient]
LATENTS = {"content": b'{"latents": [%b]}' % b",".join([b"[0, 0, 0]"] * 16), "headers": JSON}

# requests about sixteen images, each in the format that takes the most memory
LARGE_REQUESTS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "sample": ("GET", "sample?n=16&format=webp", {}),
    "traverse": ("GET", "traverse?dims=0,1&steps=8&format=webp", {}),
    "decode": ("POST", "decode?format=webp", LATENTS),
    "interpolate": ("POST", "interpolate?steps=16&format=webp", multipart(picture(), picture())),
    "encode": ("POST", "encode?format=json", multipart(*[picture()] * 16)),
    "reconstruct": ("POST", "reconstruct?format=webp", multipart(*[picture()] * 16)),
    "score": ("POST", "score?importance_samples=4", multipart(*[picture()] * 16)),
}


@pytest.mark.parametrize("name", LARGE_REQUESTS)
async def test_answer_beyond_the_limit_is_413_before_anything_is_computed(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """No noise is drawn, and nothing is queued, for a request whose images, latents and text would be too large."""
    method, address, body = LARGE_REQUESTS[name]
    async with running(settings, max_answer_bytes=8192) as (app, client):
        gate = Gate(app.state.parts.registry.find(None))
        monkeypatch.setattr(noise, "standard_normal", refuse)
        monkeypatch.setattr(score, "binarised_for_scoring", refuse)
        answer = await client.request(method, f"/v1/{address}", **body)

        assert (answer.status_code, gate.batches) == (413, 0)
        assert "limit" in answer.json()["detail"]
        assert (await client.get("/readyz")).status_code == 200


def refuse(*_: object, **__: object) -> None:
    """Fail a test whose request has begun to compute."""
    raise AssertionError("noise was drawn for a request that is too large")


@pytest.fixture
async def tight(settings: Settings) -> AsyncIterator[Service]:
    """A service with memory for the answers to two large requests."""
    async with running(settings, max_answers_bytes=2 * LARGE_BYTES, max_answer_bytes=LARGE_BYTES) as service:
        yield service


LARGE = "/v1/sample?n=16&format=webp"
LARGE_BYTES = 16 * (4 * 4 * 3 + 2 * 64 + 1024 + 64 * (9 * 9 * 4 // 3))


async def test_answers_beyond_the_memory_are_429(tight: Service) -> None:
    """Two large requests of one client would leave nothing to others. Its small request is answered."""
    app, client = tight
    gate = Gate(app.state.parts.registry.find(None))
    large = asyncio.create_task(client.get(LARGE))
    while not gate.batches:
        await asyncio.sleep(0)
    assert app.state.parts.answer_memory.large.taken == LARGE_BYTES > SMALL_BYTES
    small = asyncio.create_task(client.get("/v1/sample?n=1"))
    refused = await client.get(LARGE)
    gate.open()

    assert (refused.status_code, refused.headers["retry-after"]) == (429, "1")
    assert refused.json()["type"] == "urn:latentd:problem:answer-memory-full"
    assert [(await large).status_code, (await small).status_code] == [200, 200]
    await check_unharmed(client)


ENDS: dict[str, tuple[str, str, dict[str, Any], int]] = {
    "answered": ("GET", LARGE, {}, 200),
    "without a body": ("HEAD", LARGE, {}, 200),
    "held by the client": ("GET", f"{LARGE}&seed=1", {"headers": {"If-None-Match": "*"}}, 304),
    "too many images": ("GET", "/v1/sample?n=17", {}, 413),
    "no array": ("POST", "/v1/encode", {"content": b"x" * 70_000, "headers": NPY}, 400),
    "no picture": ("POST", "/v1/encode", {"content": b"x" * 70_000, "headers": PNG}, 422),
    "one end of two": ("POST", "/v1/interpolate?steps=16&format=webp", multipart(picture()), 422),
    "no such model": ("GET", "/v1/models/none/sample", {}, 404),
}


@pytest.mark.parametrize("end", ENDS)
async def test_memory_is_returned_at_every_end(app: FastAPI, client: httpx.AsyncClient, end: str) -> None:
    """Each status of an answer ends its reservation."""
    method, address, body, status = ENDS[end]
    answer = await client.request(method, address, **body)

    assert answer.status_code == status
    assert app.state.parts.answer_memory.taken == app.state.parts.body_memory.taken == 0


async def test_memory_is_returned_by_a_request_that_is_late_or_cancelled(settings: Settings) -> None:
    """A deadline ends the first request, and the server cancels the second as it stops."""
    async with running(settings, timeout_s=0.1) as (app, client):
        Gate(app.state.parts.registry.find(None))
        late = await client.get(LARGE)
        assert (late.status_code, app.state.parts.answer_memory.taken) == (504, 0)

        cancelled = asyncio.create_task(client.get(LARGE))
        while not app.state.parts.answer_memory.taken:
            await asyncio.sleep(0)
        cancelled.cancel()
        await asyncio.gather(cancelled, return_exceptions=True)

        assert app.state.parts.answer_memory.taken == 0


class Reader:
    """A client at the other side of an ASGI app, which takes each message when the test allows it."""

    def __init__(self) -> None:
        self.taken: list[Message] = []
        self.may_take = asyncio.Semaphore(0)
        self.is_gone = asyncio.Event()
        self.is_offered = asyncio.Event()

    async def send(self, message: Message) -> None:
        """Take a message, as uvicorn does when the connection's buffer is empty."""
        self.is_offered.set()
        await self.may_take.acquire()
        self.taken.append(message)

    async def receive(self) -> Message:
        """An empty body; then the client leaves when the test says so."""
        await self.is_gone.wait()
        return {"type": "http.disconnect"}


def ask(app: FastAPI, reader: Reader, query: bytes) -> asyncio.Task[None]:
    """Begin to answer a request for samples."""
    scope = {
        "type": "http", "method": "GET", "path": "/v1/sample", "raw_path": b"/v1/sample", "root_path": "",
        "query_string": query, "headers": [], "scheme": "http", "http_version": "1.1", "client": ("10.0.0.1", 9),
        "server": ("latentd", 80), "state": {},
    }  # fmt: skip
    stack: Callable[..., Any] = app
    return asyncio.create_task(stack(scope, reader.receive, reader.send))


async def test_memory_is_held_until_the_client_has_taken_the_answer(settings: Settings) -> None:
    """While the answer is sent, it is held as long as it is, without the tensors it was made of."""
    async with running(settings, max_images_per_request=1000, max_request_pixels=64_000, queue_images=1000) as (app, _):
        reader, memory = Reader(), app.state.parts.answer_memory
        asked = ask(app, reader, b"n=1000&format=safetensors")
        await reader.is_offered.wait()
        length = memory.taken
        reader.may_take.release()
        while not reader.taken:
            await asyncio.sleep(0)
        headers = dict(reader.taken[0]["headers"])
        assert int(headers[b"content-length"]) == length > PIECE_BYTES
        while not asked.done():
            assert memory.taken == length
            reader.may_take.release()
            await asyncio.sleep(0)

        sizes = [len(message.get("body", b"")) for message in reader.taken[1:]]
        assert (sum(sizes), max(sizes), sizes[-1], memory.taken) == (length, PIECE_BYTES, 0, 0)
        assert [message.get("more_body", False) for message in reader.taken[1:]] == [True] * (len(sizes) - 1) + [False]


async def test_memory_is_returned_when_the_answer_is_not_taken(app: FastAPI) -> None:
    """The server cancels the request of a client that does not read."""
    reader, memory = Reader(), app.state.parts.answer_memory
    asked = ask(app, reader, b"n=16&format=safetensors")
    await reader.is_offered.wait()
    assert memory.taken
    asked.cancel()
    await asyncio.gather(asked, return_exceptions=True)

    assert memory.taken == 0
