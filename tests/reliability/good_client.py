"""`python -m tests.reliability.good_client URL PAUSE_S [CONTENT_TYPE FILE]`: asks again and again; a line per answer.

With a file it sends a POST. It is a process of its own, so
that the work of the siege does not count as time of the service.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import NamedTuple

import httpx

LOST = 0  # in place of the status of a request without an answer


class Asked(NamedTuple):
    """One request: when it was sent (by the monotonic clock, which all processes share), its status, its duration."""

    at_s: float
    status: int
    took_ms: float


@asynccontextmanager
async def asking(url: str, pause_s: float = 0.0, *body: str) -> AsyncIterator[list[Asked]]:
    """Run a good client from its first answer on; when the block ends, the list has its requests."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", __name__, url, str(pause_s), *body, stdout=asyncio.subprocess.PIPE, limit=2**27
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
    url, pause_s, *body = sys.argv[1:]
    content_type, content = (body[0], Path(body[1]).read_bytes()) if body else ("", None)
    headers = {"Content-Type": content_type} if body else {}
    with httpx.Client(timeout=30, headers=headers) as client:
        request = client.build_request("POST" if body else "GET", url, content=content)
        while True:
            at_s = time.monotonic()
            status = _status(client, request)
            line = f"{at_s} {status} {(time.monotonic() - at_s) * 1e3}\n"
            os.write(sys.stdout.fileno(), line.encode())  # in one write, since it may be killed at any time
            time.sleep(float(pause_s))


def _status(client: httpx.Client, request: httpx.Request) -> int:
    try:
        return client.send(request).status_code
    except httpx.HTTPError:
        return LOST


if __name__ == "__main__":
    main()
