"""The memory for bodies is bounded for all requests together, and is given back."""

import asyncio
from collections.abc import AsyncIterator

import httpx
import pytest
from fastapi import FastAPI

from service.memory import SMALL_BYTES
from service.settings import Settings

from ..conftest import check_unharmed, running
from ..wire import PNG, picture

pytestmark = pytest.mark.anyio


LARGE = SMALL_BYTES + 10


async def until_taken(app: FastAPI, size: int) -> None:
    """Return when large bodies hold that number of bytes."""
    while app.state.parts.body_memory.large.taken < size:
        await asyncio.sleep(0)


async def withheld(size: int, rest: asyncio.Event) -> AsyncIterator[bytes]:
    """A body whose last byte comes when the event is set."""
    yield b"x" * (size - 1)
    await rest.wait()
    yield b"x"


@pytest.fixture
async def tight(settings: Settings) -> AsyncIterator[tuple[FastAPI, httpx.AsyncClient]]:
    """A service with memory for two large bodies."""
    async with running(settings, max_bodies_bytes=2 * LARGE, max_body_bytes=LARGE) as service:
        yield service


async def test_bodies_beyond_the_memory_are_429(tight: tuple[FastAPI, httpx.AsyncClient]) -> None:
    """A body that the service has begun to read is read to its end, and then its memory is free again."""
    (app, client), rest = tight, asyncio.Event()
    begun = asyncio.create_task(client.post("/v1/encode", content=withheld(LARGE, rest), headers=PNG))
    second = asyncio.create_task(client.post("/v1/encode", content=withheld(LARGE, rest), headers=PNG))
    await until_taken(app, LARGE - 1)
    refused = await client.post("/v1/encode", content=b"x" * LARGE, headers=PNG)
    rest.set()

    assert (refused.status_code, refused.headers["retry-after"]) == (429, "1")
    assert refused.json()["type"] == "urn:latentd:problem:body-memory-full"
    assert sorted([(await begun).status_code, (await second).status_code]) == [422, 429]
    assert app.state.parts.body_memory.taken == 0
    assert (await client.post("/v1/encode", content=picture(), headers=PNG)).status_code == 200
    await check_unharmed(client)


async def test_small_bodies_are_read_while_large_ones_take_the_memory(
    tight: tuple[FastAPI, httpx.AsyncClient],
) -> None:
    """Clients that withhold the last byte of large bodies do not shut out a client with a small picture."""
    (app, client), rest = tight, asyncio.Event()
    large = [
        asyncio.create_task(client.post("/v1/encode", content=withheld(LARGE, rest), headers=PNG)) for _ in range(34)
    ]
    await until_taken(app, LARGE - 1)
    small = await client.post("/v1/encode", content=picture(), headers=PNG)
    rest.set()
    await asyncio.gather(*large)

    assert small.status_code == 200


def test_memory_is_large_enough_for_one_body() -> None:
    """A smaller memory could never read the largest body."""
    with pytest.raises(ValueError, match="raise the first"):
        Settings(max_bodies_bytes=2048, max_body_bytes=4096)
