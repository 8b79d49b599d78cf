"""`python -m tests.reliability.siege`: how a good client fares while others hold connections open or flood the service.

Silent connections; heads, bodies and trailers sent byte by byte; many requests in a row; answers that are
taken slowly or not at all; more work than the queue holds; more connections than the process may open files.
The result is a section of docs/reliability.md.
"""

from __future__ import annotations

import argparse
import asyncio
import re
import resource
import socket
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Coroutine, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from statistics import quantiles
from typing import Any, NamedTuple

from rich.console import Console

from benchmarks import page
from benchmarks.machine import machine

from ..process import Process, unharmed
from ..serving import serving
from .good_client import asking
from .good_requests import HOST

DEADLINE_S, IDLE_S = 2.0, 3.0
DRIP_S = 0.1
ALONE_S = 3.0  # seconds in which a good client asks before the siege
FLOOD, REFUSALS, PAUSE_S = 16, 400, 0.1
FLOODED = (200, 429)  # the right answers to a flood
IN_A_ROW, SLOWLY = 20, 500  # requests; bytes taken at a time
FEW_FILES, OUR_FILES = 256, 4096  # open files that the service may have at its start, and that the siege may have
FLAGS = (
    f"--head-timeout-s={DEADLINE_S}", f"--body-timeout-s={DEADLINE_S}", f"--idle-timeout-s={IDLE_S:g}", "--reload-s=0",
    "--queue-images=256", "--log-level=info",
)  # fmt: skip

SAMPLE = b"GET /v1/sample HTTP/1.1\r\n" + HOST
ENCODE = b"POST /v1/encode HTTP/1.1\r\n" + HOST + b"Content-Type: image/png\r\n"
FLOODING = b"GET /v1/sample?n=128&format=npy HTTP/1.1\r\n" + HOST + b"\r\n"
LONG = b"GET /static-offline-docs/swagger-ui-bundle.js HTTP/1.1\r\n" + HOST + b"\r\n"  # 1.5 MB, and no computation
MUCH = LONG * 8  # 12 MB: more than the kernel buffers


class Limits(NamedTuple):
    """The allowed limits: seconds after a deadline, ms by which p99 rises, ms of a refusal for a percentage of them."""

    late_s: float
    noticed_ms: float
    refused_ms: float
    refused_percent: int


STRICT = Limits(late_s=2, noticed_ms=50, refused_ms=50, refused_percent=99)
BUSY = Limits(
    late_s=15, noticed_ms=3000, refused_ms=1000, refused_percent=50
)  # where other programs use the machine too


@dataclass
class Besieged:
    """The result: answers of a good client before and during the siege, and of a flood; how long each attack lasted."""

    good: Counter[int] = field(default_factory=Counter)
    before_ms: list[float] = field(default_factory=list)
    meanwhile_ms: list[float] = field(default_factory=list)
    held_s: dict[str, list[float]] = field(default_factory=dict)
    flood: Counter[int] = field(default_factory=Counter)
    refused_ms: list[float] = field(default_factory=list)
    retry_after: set[str] = field(default_factory=set)
    tracebacks: int = 0
    files: int = 0  # the soft limit that the service has set for itself
    harm: list[str] = field(default_factory=list)  # problems of the service afterwards


def main() -> int:
    """Besiege a service, print and write the result; the exit status is 1 if it has faults."""
    options, console = _parser().parse_args(), Console(soft_wrap=True)
    with tempfile.TemporaryDirectory(prefix="latentd-siege-") as folder:
        found = siege(Path(folder))
    tables = _tables(found)
    page.show(tables, console)
    if options.out:
        page.write("Siege", tables, options.out)
    for problem in problems(found, STRICT):
        console.print(problem, style="bold red")
    return 1 if problems(found, STRICT) else 0


def siege(folder: Path) -> Besieged:
    """Besiege a service of its own."""
    found = Besieged()
    with _started_with_few_files(folder) as process:
        found.files = _files_of(process)
        asyncio.run(_besiege(process, found))
        found.harm = unharmed(process)
    return found


def problems(found: Besieged, limits: Limits) -> list[str]:
    """The faults that were found: a good client disturbed, others not closed, refusals slow or without a time."""
    lost = [f"a good client got {count} answers {status}" for status, count in found.good.items() if status != 200]
    early = [f"{name}: closed after {min(s):.1f} s" for name, s in found.held_s.items() if min(s) < DEADLINE_S / 2]
    late = [f"{name}: held out {max(s):.1f} s" for name, s in found.held_s.items()
            if max(s) > HOLDS[name].deadline_s + limits.late_s]  # fmt: skip
    before, meanwhile = _quantile(found.before_ms, 99), _quantile(found.meanwhile_ms, 99)
    is_noticed = meanwhile > 4 * before + limits.noticed_ms
    noticed = [f"p99 rose from {before:.0f} to {meanwhile:.0f} ms"] if is_noticed else []
    refused_ms = _quantile(found.refused_ms, limits.refused_percent)
    slow = [f"a refusal took {refused_ms:.0f} ms"] if refused_ms > limits.refused_ms else []
    odd = [f"the flood got {count} answers {status}" for status, count in found.flood.items() if status not in FLOODED]
    vague = [f"Retry-After: {value}" for value in found.retry_after if not value.isdecimal()]
    told = [f"{found.tracebacks} bodies with a traceback"] if found.tracebacks else []
    return [*lost, *early, *late, *noticed, *slow, *odd, *vague, *told, *found.harm]


@contextmanager
def _started_with_few_files(folder: Path) -> Iterator[Process]:
    """A service as many systems start it: its soft limit of open files is lower than the number of connections."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (FEW_FILES, hard))
    try:
        with serving(folder, *FLAGS) as process:
            resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(OUR_FILES, hard)), hard))
            yield process
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def _files_of(process: Process) -> int:
    """The service's soft limit of open files; if the service has left it low, raise it, so that clients can connect."""
    soft, hard = resource.prlimit(process.pid, resource.RLIMIT_NOFILE)
    if soft == FEW_FILES:
        resource.prlimit(process.pid, resource.RLIMIT_NOFILE, (min(OUR_FILES, hard), hard))
    return soft


async def _besiege(process: Process, found: Besieged) -> None:
    """First the clients that hold connections, then those that flood."""
    _, port = process.address
    async with asking(f"{process.url}/v1/sample") as asked:
        await asyncio.sleep(ALONE_S)
        begins_s = time.monotonic()
        await asyncio.gather(*(_hold_all(name, port, found) for name in HOLDS))
        ends_s = time.monotonic()
    found.good.update(one.status for one in asked)
    found.before_ms = [one.took_ms for one in asked if one.at_s < begins_s]
    found.meanwhile_ms = [one.took_ms for one in asked if begins_s <= one.at_s < ends_s]
    await _flood(port, found)


async def _hold_all(name: str, port: int, found: Besieged) -> None:
    """All clients that hold connections in one way, until the last of them is closed."""
    way = HOLDS[name]
    found.held_s[name] = await asyncio.gather(*(_held(way.hold, port) for _ in range(way.clients)))


async def _flood(port: int, found: Besieged) -> None:
    """Ask for more images than may wait, until enough requests were refused; bare sockets cost the least time."""

    async def ask() -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        while len(found.refused_ms) < REFUSALS:
            began = time.perf_counter()
            writer.write(FLOODING)
            head = await reader.readuntil(b"\r\n\r\n")
            body = await reader.readexactly(int(re.findall(rb"content-length: (\d+)", head)[0]))
            found.tracebacks += b"Traceback" in body
            found.flood[int(head[9:12])] += 1
            if found_after := re.findall(rb"retry-after: (\S+)", head):
                found.refused_ms.append((time.perf_counter() - began) * 1e3)
                found.retry_after.add(found_after[0].decode())
                await asyncio.sleep(PAUSE_S)
        writer.close()

    await asyncio.gather(*(ask() for _ in range(FLOOD)))


Hold = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Coroutine[Any, Any, None]]


async def _held(hold: Hold, port: int) -> float:
    """The seconds until the service closed a connection, and to make it: the service may have accepted it long ago."""
    began = time.perf_counter()
    reader, writer = await asyncio.open_connection(sock=await _narrow(port), limit=4096)
    try:
        await hold(reader, writer)
    except OSError:
        pass  # the service has closed it, as it should
    finally:
        writer.transport.abort()
    return time.perf_counter() - began


async def _narrow(port: int) -> socket.socket:
    """A connection for which the kernel buffers little of an answer."""
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
    writer.write(ENCODE + b"Content-Length: 100000\r\n\r\n")
    await _drip(b"\x89PNG" * 10_000, reader, writer)


async def _drip_trailer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(ENCODE + b"Transfer-Encoding: chunked\r\n\r\n4\r\n\x89PNG\r\n0\r\n")
    await _drip(b"X: y\r\n" * 2_000, reader, writer)


async def _drip(content: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    for byte in content:
        writer.write(bytes([byte]))
        await asyncio.sleep(DRIP_S)
        if reader.at_eof() or writer.is_closing():
            return


async def _ask_in_a_row(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Many small requests at once, and then silence."""
    writer.write((SAMPLE + b"\r\n") * IN_A_ROW)
    await reader.read()


async def _take_slowly(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Ask for 12 MB, and take a little of it now and then."""
    writer.write(MUCH)
    while await reader.read(SLOWLY):
        await _say_something(writer)


async def _take_nothing(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Ask for 12 MB, and take none of it."""
    writer.transport.pause_reading()  # type: ignore[attr-defined]  # a transport that reads and writes
    writer.write(MUCH)
    while True:
        await _say_something(writer)


async def _say_something(writer: asyncio.StreamWriter) -> None:
    """Send a line feed, which means nothing between requests, but fails once the service has closed."""
    writer.write(b"\r\n")
    await writer.drain()
    await asyncio.sleep(DRIP_S)


class Way(NamedTuple):
    """One way to hold a connection: the number of clients, and the deadline at which the service closes each."""

    clients: int
    hold: Hold
    deadline_s: float = DEADLINE_S


REFUSED_S = 2 * DEADLINE_S  # the service reads on for as long as a body may take, so that its refusal is not lost

HOLDS = {
    "silent": Way(500, _be_silent),
    "head by bytes": Way(50, _drip_head, REFUSED_S),
    "body by bytes": Way(50, _drip_body, REFUSED_S),
    "trailers by bytes": Way(50, _drip_trailer, REFUSED_S),
    "requests in a row": Way(10, _ask_in_a_row, IDLE_S),
    "answers taken slowly": Way(10, _take_slowly),
    "answers not taken": Way(10, _take_nothing),
}


def _tables(found: Besieged) -> Sequence[page.Table]:
    about = machine("python -m tests.reliability.siege") | {
        "siege": f"all connections of the last table at once; each has {DEADLINE_S:g} s, one without a request "
        f"{IDLE_S:g} s. By bytes: one in {DRIP_S} s. Slowly: {SLOWLY} bytes in {DRIP_S} s, of 12 MB. "
        f"In a row: {IN_A_ROW} requests at once, then silence",
        "open files": f"{FEW_FILES} allowed at the start, {_files(found)}",
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
        page.Table("How long the hostile connections lasted", ("", "connections", "s, the first", "s, the last"), held),
    ]


def _files(found: Besieged) -> str:
    return f"raised to {found.files:,} by the service" if found.files > FEW_FILES else "raised from outside"


def _counted(statuses: Counter[int]) -> str:
    return ", ".join(f"{status}: {count:,}" for status, count in sorted(statuses.items()))


def _quantile(values: Sequence[float], percent: int) -> float:
    return quantiles(values, n=100)[percent - 1]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.reliability.siege", description=__doc__)
    parser.add_argument(
        "--out", type=Path, metavar="FILE", help="the page that gets the section, such as docs/reliability.md"
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
