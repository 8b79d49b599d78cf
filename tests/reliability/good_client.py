"""`python -m tests.reliability.good_client URL`: samples, one after the other, until it is ended; a line for each.

It is a process of its own, so that the load which is made beside it does not count as time of the service.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import NamedTuple

import httpx

LOST = 0  # in place of a status, where there was no answer


class Asked(NamedTuple):
    """One request: when it was sent, by the monotonic clock, which all processes share; its answer, and its time."""

    at_s: float
    status: int
    took_ms: float


@asynccontextmanager
async def asking(url: str) -> AsyncIterator[list[Asked]]:
    """A good client, from its first answer on; what it asked is in the list when it has been ended."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", __name__, url, stdout=asyncio.subprocess.PIPE, limit=2**24
    )
    asked: list[Asked] = []
    assert process.stdout
    await process.stdout.readline()
    told = asyncio.create_task(process.stdout.read())
    try:
        yield asked
    finally:
        process.terminate()
        asked += [_read(line) for line in (await told).decode().splitlines()]
        assert await process.wait() == -signal.SIGTERM


def _read(line: str) -> Asked:
    at_s, status, took_ms = line.split()
    return Asked(float(at_s), int(status), float(took_ms))


def main() -> None:
    """Ask for ever."""
    with httpx.Client(base_url=sys.argv[1], timeout=30) as client:
        while True:
            at_s = time.monotonic()
            status = _status(client)
            line = f"{at_s} {status} {(time.monotonic() - at_s) * 1e3}\n"
            os.write(sys.stdout.fileno(), line.encode())  # in one piece, since it may be ended at any time


def _status(client: httpx.Client) -> int:
    try:
        return client.get("/v1/sample").status_code
    except httpx.HTTPError:
        return LOST


if __name__ == "__main__":
    main()
