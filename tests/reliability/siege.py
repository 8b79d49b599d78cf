"""`python -m tests.reliability.siege`: what a good client notices while others hold on to the service, or flood it.

Silent sockets, heads and bodies that come byte by byte; answers that nobody takes; more work than the queue holds.
It writes a section into docs/reliability.md.
"""

from __future__ import annotations

import argparse
import asyncio
import re
import socket
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median, quantiles
from typing import Any

import httpx
from rich.console import Console

from benchmarks import page
from benchmarks.machine import machine

from ..process import Process, unharmed
from ..serving import serving
from .good_requests import HOST

SILENT, DRIPPING, DEAF = 500, 50, 10
DEADLINE_S = 2.0
DRIP_S = 0.1
NOTICED_MS, REFUSED_MS = 50.0, 50.0
LATE_S = 2.0
ALONE_S = 3.0  # seconds in which a good client asks before the siege
FLOOD, REFUSALS, PAUSE_S = 16, 400, 0.1
FLOODED = (200, 429)  # the right answers to a flood
FLAGS = (
    f"--head-timeout-s={DEADLINE_S}", f"--body-timeout-s={DEADLINE_S}", "--idle-timeout-s=5", "--reload-s=0",
    "--queue-images=256", "--log-level=info",
)  # fmt: skip

SAMPLE = b"GET /v1/sample HTTP/1.1\r\n" + HOST
ENCODE = b"POST /v1/encode HTTP/1.1\r\n" + HOST + b"Content-Type: image/png\r\nContent-Length: 100000\r\n\r\n"
FLOODING = b"GET /v1/sample?n=128&format=npy HTTP/1.1\r\n" + HOST + b"\r\n"
LONG = b"GET /openapi.json HTTP/1.1\r\n" + HOST + b"\r\n"  # 160 kB that cost no computation


@dataclass
class Besieged:
    """A good client's answers, before and meanwhile; seconds that the others held out; what a flood was answered."""

    good: Counter[int] = field(default_factory=Counter)
    before_ms: list[float] = field(default_factory=list)
    meanwhile_ms: list[float] = field(default_factory=list)
    held_s: dict[str, list[float]] = field(default_factory=dict)
    flood: Counter[int] = field(default_factory=Counter)
    refused_ms: list[float] = field(default_factory=list)
    retry_after: set[str] = field(default_factory=set)
    left: list[str] = field(default_factory=list)  # what is wrong with the service afterwards


def main() -> int:
    """Besiege, print, write; the exit status is 1 if a good client was not answered, or a bad one not closed."""
    options, console = _parser().parse_args(), Console(soft_wrap=True)
    with tempfile.TemporaryDirectory(prefix="latentd-siege-") as folder:
        found = siege(Path(folder))
    tables = _tables(found)
    page.show(tables, console)
    if options.out:
        page.write("Siege", tables, options.out)
    for problem in problems(found):
        console.print(problem, style="bold red")
    return 1 if problems(found) else 0


def siege(folder: Path) -> Besieged:
    """That of a service of its own."""
    with serving(folder, *FLAGS) as process:
        found = asyncio.run(_besiege(process))
        found.left = unharmed(process)
    return found


def problems(found: Besieged) -> list[str]:
    """What a service must not do: let a good client down, let others hold on, refuse slowly or without a time."""
    lost = [f"a good client got {count} answers {status}" for status, count in found.good.items() if status != 200]
    early = [f"{name}: closed after {min(s):.1f} s" for name, s in found.held_s.items() if min(s) < DEADLINE_S / 2]
    late = [f"{name}: held out {max(s):.1f} s" for name, s in found.held_s.items() if max(s) > DEADLINE_S + LATE_S]
    before, meanwhile = _quantile(found.before_ms, 99), _quantile(found.meanwhile_ms, 99)
    noticed = [f"p99 rose from {before:.0f} to {meanwhile:.0f} ms"] if meanwhile > 4 * before + NOTICED_MS else []
    refused_ms = median(found.refused_ms)
    slow = [f"a refusal took {refused_ms:.0f} ms"] if refused_ms > REFUSED_MS else []
    odd = [f"the flood got {count} answers {status}" for status, count in found.flood.items() if status not in FLOODED]
    vague = [f"Retry-After: {value}" for value in found.retry_after if not value.isdecimal()]
    return [*lost, *early, *late, *noticed, *slow, *odd, *vague, *found.left]


async def _besiege(process: Process) -> Besieged:
    """First those who hold on, then those who ask for too much."""
    found = Besieged()
    async with httpx.AsyncClient(base_url=process.url, timeout=30) as client:
        found.before_ms = await _asked(client, found, ALONE_S)
        _, port = process.address
        ways = {
            "silent": (SILENT, _be_silent),
            "head by bytes": (DRIPPING, _drip_head),
            "body by bytes": (DRIPPING, _drip_body),
        }
        holding = {
            name: [asyncio.create_task(_held(hold, port)) for _ in range(count)] for name, (count, hold) in ways.items()
        }
        await asyncio.sleep(0.2)
        found.meanwhile_ms = await _asked(client, found, DEADLINE_S - 0.5)
        found.held_s = {name: list(await asyncio.gather(*tasks)) for name, tasks in holding.items()}
        found.held_s["answers not taken"] = await asyncio.gather(*(_held(_take_nothing, port) for _ in range(DEAF)))
    await _flood(port, found)
    return found


async def _asked(client: httpx.AsyncClient, found: Besieged, seconds: float) -> list[float]:
    """The times of a good client's requests, one after the other."""
    times, ends = [], time.perf_counter() + seconds
    while time.perf_counter() < ends:
        began = time.perf_counter()
        found.good[(await client.get("/v1/sample")).status_code] += 1
        times.append((time.perf_counter() - began) * 1e3)
    return times


async def _flood(port: int, found: Besieged) -> None:
    """More images than may wait, until enough have been refused; over bare sockets, which take no time of their own."""

    async def ask() -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        while len(found.refused_ms) < REFUSALS:
            began = time.perf_counter()
            writer.write(FLOODING)
            head = await reader.readuntil(b"\r\n\r\n")
            await reader.readexactly(int(re.findall(rb"content-length: (\d+)", head)[0]))
            found.flood[int(head[9:12])] += 1
            if found_after := re.findall(rb"retry-after: (\S+)", head):
                found.refused_ms.append((time.perf_counter() - began) * 1e3)
                found.retry_after.add(found_after[0].decode())
                await asyncio.sleep(PAUSE_S)
        writer.close()

    await asyncio.gather(*(ask() for _ in range(FLOOD)))


Hold = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Coroutine[Any, Any, None]]


async def _held(hold: Hold, port: int) -> float:
    """Seconds until the service closed a connection."""
    reader, writer = await asyncio.open_connection(sock=await _narrow(port), limit=4096)
    began = time.perf_counter()
    try:
        await hold(reader, writer)
    except OSError:
        pass  # it is closed, which is what is waited for
    finally:
        writer.transport.abort()
    return time.perf_counter() - began


async def _narrow(port: int) -> socket.socket:
    """A connection for which the kernel keeps little of an answer that nobody takes."""
    narrow = socket.socket()
    narrow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    narrow.setblocking(False)
    await asyncio.get_running_loop().sock_connect(narrow, ("127.0.0.1", port))
    return narrow


async def _be_silent(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
    await reader.read()


async def _drip_head(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await _drip(SAMPLE + b"X: " + b"y" * 10_000, reader, writer)


async def _drip_body(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(ENCODE)
    await _drip(b"\x89PNG" * 10_000, reader, writer)


async def _drip(content: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    for byte in content:
        writer.write(bytes([byte]))
        await asyncio.sleep(DRIP_S)
        if reader.at_eof() or writer.is_closing():
            return


async def _take_nothing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Ask for 20 MB, and take none of it."""
    writer.transport.pause_reading()  # type: ignore[attr-defined]  # a transport that reads and writes
    writer.write(LONG * 125)
    while True:
        writer.write(b"\r\n")  # which fails when the other side is gone
        await writer.drain()
        await asyncio.sleep(DRIP_S)


def _tables(found: Besieged) -> Sequence[page.Table]:
    about = machine("python -m tests.reliability.siege") | {
        "siege": f"{SILENT} silent connections, {DRIPPING} heads and {DRIPPING} bodies that come a byte in {DRIP_S} s; "
        f"then {DEAF} who ask for 20 MB and take nothing; each has {DEADLINE_S:g} s",
        "flood": f"{FLOOD} callers, 128 images each, before a queue of 256; the refused ask again after {PAUSE_S} s",
        "the good client's answers": _counted(found.good),
        "the flood's answers": _counted(found.flood),
        "Retry-After": ", ".join(sorted(found.retry_after)),
    }
    times = [
        ("a good client alone", found.before_ms), ("the same during the siege", found.meanwhile_ms),
        ("refusals, 429, during the flood", found.refused_ms),
    ]  # fmt: skip
    rows = [[name, f"{len(each):,}", *(f"{_quantile(each, q):.1f}" for q in (50, 99)), f"{max(each):.1f}"]
            for name, each in times]  # fmt: skip
    held = [[name, str(len(each)), f"{min(each):.1f}", f"{max(each):.1f}"] for name, each in found.held_s.items()]
    return [
        page.Table("The run", ("", ""), list(about.items())),
        page.Table("Answers, ms", ("", "requests", "p50", "p99", "most"), rows),
        page.Table("How long the others held out", ("", "connections", "s, the first", "s, the last"), held),
    ]


def _counted(statuses: Counter[int]) -> str:
    return ", ".join(f"{status}: {count:,}" for status, count in sorted(statuses.items()))


def _quantile(values: Sequence[float], percent: int) -> float:
    return quantiles(values, n=100)[percent - 1]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.reliability.siege", description=__doc__)
    parser.add_argument("--out", type=Path, metavar="FILE", help="a page whose section is written, docs/reliability.md")
    return parser


if __name__ == "__main__":
    sys.exit(main())
