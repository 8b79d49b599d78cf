"""Callers that send one request after the other, and record the answers."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import httpx

CALLERS = 16


@dataclass(frozen=True)
class Got:
    """The outcome of a request: its end by `time.monotonic`, its status or the name of the error, and its headers."""

    at: float
    status: int | str
    headers: httpx.Headers

    @property
    def model(self) -> str:
        """The model that answered."""
        return str(self.headers.get("x-model", ""))


@asynccontextmanager
async def load(url: str, path: str = "/v1/sample?n=2", callers: int = CALLERS) -> AsyncIterator[list[Got]]:
    """The outcomes of several callers in their order; each caller has its own connection."""
    seen: list[Got] = []
    stop = asyncio.Event()
    tasks = [asyncio.create_task(_call(url + path, seen, stop)) for _ in range(callers)]
    try:
        yield seen
    finally:
        stop.set()
        await asyncio.gather(*tasks)


async def _call(url: str, seen: list[Got], stop: asyncio.Event) -> None:
    async with httpx.AsyncClient(timeout=20, trust_env=False) as client:
        while not stop.is_set():
            try:
                answer = await client.get(url)
                seen.append(Got(time.monotonic(), answer.status_code, answer.headers))
            except httpx.HTTPError as error:
                seen.append(Got(time.monotonic(), type(error).__name__, httpx.Headers()))


async def more(seen: list[Got], count: int, limit_s: float = 30) -> None:
    """Wait until `count` more requests have ended."""
    enough = len(seen) + count
    async with asyncio.timeout(limit_s):
        while len(seen) < enough:
            await asyncio.sleep(0.01)


def lost(seen: list[Got]) -> list[Got]:
    """The requests that were not answered."""
    return [got for got in seen if got.status != 200]
