"""`python -m tests.reliability.good_client URL PAUSE_S`: asks the URL again and again; a line for each answer.

It is a process of its own, so that the work of the siege does not count as time of the service.
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

LOST = 0  # in place of the status of a request without an answer


class Asked(NamedTuple):
    """One request: when it was sent (by the monotonic clock, which all processes share), its status, its duration."""

    at_s: float
    status: int
    took_ms: float


@asynccontextmanager
async def asking(url: str, pause_s: float = 0.0) -> AsyncIterator[list[Asked]]:
    """Run a good client from its first answer on; when the block ends, the list has its requests."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", __name__, url, str(pause_s), stdout=asyncio.subprocess.PIPE, limit=2**27
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
    """Ask until the process is killed."""
    url, pause_s = sys.argv[1], float(sys.argv[2])
    with httpx.Client(timeout=30) as client:
        while True:
            at_s = time.monotonic()
            status = _status(client, url)
            line = f"{at_s} {status} {(time.monotonic() - at_s) * 1e3}\n"
            os.write(sys.stdout.fileno(), line.encode())  # in one write, since it may be killed at any time
            time.sleep(pause_s)


def _status(client: httpx.Client, url: str) -> int:
    try:
        return client.get(url).status_code
    except httpx.HTTPError:
        return LOST


if __name__ == "__main__":
    main()
