"""The memory for bodies is bounded for all requests together, and is given back."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from service.errors import BodyMemoryFull
from service.http.body import BodyMemory
from service.settings import Settings

from ..conftest import check_unharmed, running
from ..wire import PNG, picture

pytestmark = pytest.mark.anyio


def test_reservation_is_given_back_after_an_error() -> None:
    """A request that was refused holds no memory."""
    memory = BodyMemory(10)
    with memory.reserve() as first, memory.reserve() as second:
        first.take(6)
        second.take(4)
        with pytest.raises(BodyMemoryFull, match="more than 10 bytes"):
            second.take(1)

    assert memory.taken == 0


async def test_bodies_beyond_the_memory_are_429(settings: Settings) -> None:
    """A body that the service has begun to read is read to its end, and then its memory is free again."""
    rest = asyncio.Event()

    async def slow() -> AsyncIterator[bytes]:
        yield picture()[:20]
        await rest.wait()
        yield picture()[20:]

    async def large() -> AsyncIterator[bytes]:
        for _ in range(10):
            yield b"x" * 101

    async with running(settings, max_bodies_bytes=1024, max_body_bytes=1024) as (app, client):
        begun = asyncio.create_task(client.post("/v1/encode", content=slow(), headers=PNG))
        while not app.state.parts.body_memory.taken:
            await asyncio.sleep(0)
        refused = await client.post("/v1/encode", content=large(), headers=PNG)
        rest.set()

        assert (refused.status_code, refused.headers["retry-after"]) == (429, "1")
        assert (await begun).status_code == 200
        assert app.state.parts.body_memory.taken == 0
        assert (await client.post("/v1/encode", content=picture(), headers=PNG)).status_code == 200
        await check_unharmed(client)


def test_memory_is_large_enough_for_one_body() -> None:
    """A smaller memory could never read the largest body."""
    with pytest.raises(ValueError, match="raise the first"):
        Settings(max_bodies_bytes=2048, max_body_bytes=4096)
