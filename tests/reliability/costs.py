"""`python -m tests.reliability.costs`: what one request costs the service, and the clients that wait beside it.

Each request of `costly` is sent alone, while another client asks for /livez every few milliseconds. Measured are the
longest time that this client waited (a library call held Python's lock, or something held the event loop), the
processor time, and the memory of the service with all its processes. The result is a section of docs/reliability.md.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import re
import socket
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from statistics import quantiles
from typing import NamedTuple

from rich.console import Console

from benchmarks import page
from benchmarks.machine import machine
from model_store import Store, VAEConfig
from model_store.taesd import TAESD, TAESDConfig
from model_store.vae import MLPConfig

from ..conftest import make_model
from ..process import Process, unharmed
from .costly import Costly, MiB, requests
from .good_client import Asked, asking

LATENT_VALUES = 8
MODEL = VAEConfig(image_shape=(3, 64, 64), latent_shape=(LATENT_VALUES,), network=MLPConfig(hidden=(16,)))
ANY_SIZE = TAESDConfig(image_shape=(3, None, None), latent_shape=(4, None, None), latent_space="sd1")
FLAGS = ("--head-timeout-s=20", "--body-timeout-s=20", "--idle-timeout-s=60", "--reload-s=0", "--default-model=colour")
PAUSE_S, SAMPLE_S, SETTLE_S = 0.002, 0.005, 0.05
REPEATS = 3  # the least of them counts: other programs can only add
ANSWER_S = 40.0
RIGHT = {200, 400, 413, 415, 422, 429, 431, 504}
LARGE = MiB  # bytes of a body from which on its memory is told for each byte
SHOWN = 15  # rows of each table
CLOCK_TICKS_PER_S = os.sysconf("SC_CLK_TCK")


class Limits(NamedTuple):
    """The most that one request may cost: ms that others wait, seconds of work, MiB in all, bytes for each byte."""

    held_ms: float
    worked_s: float
    memory_mib: float
    per_byte: float


STRICT = Limits(held_ms=50, worked_s=5, memory_mib=384, per_byte=11)
BUSY = Limits(held_ms=2000, worked_s=20, memory_mib=384, per_byte=11)  # where other programs use the machine too


class Sent(NamedTuple):
    """One request that was sent: its time by the monotonic clock, the status, and what the service spent on it."""

    began_s: float
    ended_s: float
    status: int
    worked_s: float
    memory_mib: float


class Cost(NamedTuple):
    """A request's cost: the least of several tries, except for the memory."""

    name: str
    body_mib: float
    status: int
    took_s: float
    held_ms: float
    worked_s: float
    memory_mib: float

    @property
    def per_byte(self) -> float | None:
        """Bytes of memory for each byte of a large body."""
        return self.memory_mib / self.body_mib if self.body_mib * MiB >= LARGE else None


class Costs(NamedTuple):
    """The costs of all requests, the wait of a client when nothing else is asked, and problems of the service after."""

    all: Sequence[Cost]
    idle_ms: Sequence[float]
    harm: Sequence[str]


def main() -> int:
    """Measure, print and write the result; the exit status is 1 if a request costs too much."""
    options, console = _parser().parse_args(), Console(soft_wrap=True)
    wanted = [each for each in requests(LATENT_VALUES) if options.only in each.name]
    with tempfile.TemporaryDirectory(prefix="latentd-costs-") as folder:
        found = measure(Path(folder), wanted, on_progress=lambda name: console.print(f"[dim]{name}", highlight=False))
    tables = _tables(found)
    page.show(tables, console)
    if options.out:
        page.write("The cost of one request", tables, options.out)
    for problem in problems(found, STRICT):
        console.print(problem, style="bold red")
    return 1 if problems(found, STRICT) else 0


def measure(folder: Path, wanted: Iterable[Costly], on_progress: Callable[[str], None] = lambda _: None) -> Costs:
    """The costs of requests to a service of its own."""
    store = Store(folder / "store")
    store.publish("colour", make_model(MODEL))
    store.publish("tiny", TAESD(ANY_SIZE))
    process = Process(store.root, *FLAGS)
    process.collect_log()
    try:
        process.wait_until_ready()
        costs, idle_ms = asyncio.run(_measure_all(process, wanted, on_progress))
        return Costs(costs, idle_ms, unharmed(process))
    finally:
        process.kill()


def problems(found: Costs, limits: Limits) -> list[str]:
    """The requests that cost too much or were not answered as they should."""
    wrong = [*found.harm]
    for cost in found.all:
        if cost.status not in RIGHT:
            wrong.append(f"{cost.name}: answered {cost.status}")
        if cost.held_ms > limits.held_ms:
            wrong.append(f"{cost.name}: others waited {cost.held_ms:.0f} ms")
        if cost.worked_s > limits.worked_s:
            wrong.append(f"{cost.name}: {cost.worked_s:.1f} s of work")
        if cost.memory_mib > limits.memory_mib:
            wrong.append(f"{cost.name}: {cost.memory_mib:.0f} MiB")
        if (cost.per_byte or 0) > limits.per_byte:
            wrong.append(f"{cost.name}: {cost.per_byte:.1f} bytes for each byte")
    return wrong


async def _measure_all(
    process: Process, wanted: Iterable[Costly], on_progress: Callable[[str], None]
) -> tuple[list[Cost], list[float]]:
    sent: list[tuple[str, int, list[Sent]]] = []
    async with asking(f"{process.url}/livez", PAUSE_S) as asked:
        alone_s = time.monotonic()
        await asyncio.sleep(2)
        for costly in wanted:
            content = await asyncio.to_thread(costly.make)
            on_progress(costly.name)
            tries = [await asyncio.to_thread(send, process, content) for _ in range(REPEATS)]
            sent.append((costly.name, len(content), tries))
    idle_ms = [each.took_ms for each in asked if alone_s <= each.at_s < alone_s + 2]
    return [_cost(name, size, tries, asked) for name, size, tries in sent], idle_ms


def _cost(name: str, size: int, tries: Sequence[Sent], asked: Sequence[Asked]) -> Cost:
    held_ms = [
        max((each.took_ms for each in asked if one.began_s - each.took_ms / 1e3 < each.at_s < one.ended_s), default=0.0)
        for one in tries
    ]
    return Cost(
        name,
        size / MiB,
        max(one.status for one in tries),
        min(one.ended_s - one.began_s for one in tries),
        min(held_ms),
        min(one.worked_s for one in tries),
        max(one.memory_mib for one in tries),
    )


def send(process: Process, content: bytes) -> Sent:
    """Send a request and read its answer, while the memory of the service is watched."""
    time.sleep(SETTLE_S)
    worked_s = work_of(process.pid)
    with watched_memory(process.pid) as memory, socket.create_connection(process.address, timeout=ANSWER_S) as client:
        began_s = time.monotonic()
        with suppress(ConnectionError):  # the service may answer before it has read all
            client.sendall(content)
        status = read_answer(client)
        ended_s = time.monotonic()
    return Sent(began_s, ended_s, status, work_of(process.pid) - worked_s, max(memory) - memory[0])


def read_answer(client: socket.socket) -> int:
    """The status of an answer, whose body is read and thrown away; 0 if there is none."""
    head = b""
    try:
        while b"\r\n\r\n" not in head:
            if not (more := client.recv(65_536)):
                return 0
            head += more
        head, _, begun = head.partition(b"\r\n\r\n")
        left = int(re.findall(rb"(?i)content-length: (\d+)", head)[0]) - len(begun)
        while left > 0 and (more := client.recv(MiB)):
            left -= len(more)
    except (OSError, IndexError):
        return 0
    return int(head[9:12])


@contextmanager
def watched_memory(process: int) -> Iterator[list[float]]:
    """The memory in MiB of a process and of those that it started: now, and then again and again."""
    seen = [memory_of(process)]
    is_over = threading.Event()

    def watch() -> None:
        while not is_over.wait(SAMPLE_S):
            seen.append(memory_of(process))

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield seen
    finally:
        is_over.set()
        watcher.join()


def family(process: int) -> list[int]:
    """A process and those that it started, and those that they started."""
    members = [process]
    for member in members:
        with suppress(OSError):
            for task in os.listdir(f"/proc/{member}/task"):
                members += map(int, Path(f"/proc/{member}/task/{task}/children").read_text(encoding="ascii").split())
    return members


def memory_of(process: int) -> float:
    """MiB that are in no file, of a process and those that it started."""
    total = 0
    for member in family(process):
        with suppress(OSError):
            status = Path(f"/proc/{member}/status").read_text(encoding="ascii")
            total += sum(map(int, re.findall(r"(?m)^Rss(?:Anon|Shmem):\s+(\d+)", status)))
    return total / 1024


def work_of(process: int) -> float:
    """Seconds of processor time of a process and those that it started, also of those that have ended."""
    ticks = 0
    for member in family(process):
        with suppress(OSError):
            fields = Path(f"/proc/{member}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
            ticks += sum(map(int, fields[11:15]))
    return ticks / CLOCK_TICKS_PER_S


def _tables(found: Costs) -> Sequence[page.Table]:
    about = machine("python -m tests.reliability.costs") | {
        "requests": f"{len(found.all)}, each alone and {REPEATS} times; the least time, and the most memory",
        "models": f"images {MODEL.image_shape}, latents {MODEL.latent_shape}; a tiny one of any size",
        "/livez alone": f"p99 {quantiles(found.idle_ms, n=100)[98]:.1f} ms, most {max(found.idle_ms):.1f} ms",
        "allowed": f"others wait {STRICT.held_ms:g} ms, {STRICT.worked_s:g} s of work, {STRICT.memory_mib:g} MiB, and "
        f"{STRICT.per_byte:g} bytes for each byte of a body of a megabyte or more",
        "verdict": "; ".join(problems(found, STRICT)) or "no request costs more",
    }
    head = ("", "body, MiB", "status", "answered, s", "others wait, ms", "work, s", "memory, MiB", "for each byte")
    by_wait = sorted(found.all, key=lambda cost: -cost.held_ms)[:SHOWN]
    by_work = sorted(found.all, key=lambda cost: -cost.worked_s)[:SHOWN]
    by_memory = sorted(found.all, key=lambda cost: -cost.memory_mib)[:SHOWN]
    return [
        page.Table("The run", ("", ""), list(about.items())),
        page.Table("The longest waits of others", head, [*map(_row, by_wait)]),
        page.Table("The most work", head, [*map(_row, by_work)]),
        page.Table("The most memory", head, [*map(_row, by_memory)]),
    ]


def _row(cost: Cost) -> list[str]:
    per_byte = page.NOTHING if cost.per_byte is None else f"{cost.per_byte:.1f}"
    return [
        cost.name, f"{cost.body_mib:.2f}", str(cost.status), f"{cost.took_s:.2f}", f"{cost.held_ms:.1f}",
        f"{cost.worked_s:.2f}", f"{cost.memory_mib:.0f}", per_byte,
    ]  # fmt: skip


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.reliability.costs", description=__doc__)
    parser.add_argument("--only", default="", metavar="TEXT", help="only requests with this text in their names")
    parser.add_argument(
        "--out", type=Path, metavar="FILE", help="the page that gets the section, such as docs/reliability.md"
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
