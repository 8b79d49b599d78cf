"""`python -m tests.reliability.soak`: mixed traffic for minutes, to find leaks in the service.

Good requests of every kind, mutated ones, clients that leave, and a new version of a model every few seconds. Meanwhile
the service's memory, files, threads, tasks and metrics are measured. The result is a section of docs/reliability.md.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import random
import re
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import cycle
from pathlib import Path
from statistics import median
from typing import NamedTuple

import httpx
import matplotlib.pyplot as plt
from rich.console import Console
from rich.progress import Progress

from benchmarks import page
from benchmarks.machine import machine
from model_store import Store

from ..process import Process, unharmed
from ..serving import serving
from . import good_requests
from .bytes_fuzz import mutated
from .versions import SPOILT, Shelf, unspoilt

CALLERS = 12
RELOAD_EVERY_S = 2.0
KEPT = 4  # versions in the store
MEASURE_EVERY_S = 1.0
LATE_S = 5.0
MIN_MEASUREMENTS = 120  # with fewer, threads, metrics and memory have not reached their final level
TRACEBACK = "traceback"  # in place of a status
FLAGS = (
    "--head-timeout-s=2", "--body-timeout-s=2", "--idle-timeout-s=5", "--reload-s=0.5", "--versions-per-model=16",
)  # fmt: skip
FIGURE = Path("docs/figures/soak.png")

Address = tuple[str, int]
OnProgress = Callable[[float], object]


@dataclass
class Measurement:
    """The quantities that a service holds at one second of the soak."""

    second: float
    memory_mib: float
    files: int
    threads: int
    tasks: int
    series: int


class Quantity(NamedTuple):
    """A field of a measurement, its title, and how much more of it there may be late than early."""

    name: str
    title: str
    slack: float


QUANTITIES = (
    Quantity("memory_mib", "resident memory, MiB", 24),
    Quantity("files", "open files", 8),
    Quantity("threads", "threads", 2),
    Quantity("tasks", "tasks", 16),
    Quantity("series", "series of /metrics", 64),
)


@dataclass
class Soaked:
    """The result of a soak: answers by status, losses, and measurements of the service."""

    statuses: Counter[str] = field(default_factory=Counter)
    lost: int = 0
    reloads: int = 0
    measurements: list[Measurement] = field(default_factory=list)
    harm: list[str] = field(default_factory=list)  # problems of the service afterwards

    def settled(self, name: str) -> tuple[float, float]:
        """The medians of a quantity in the second and in the last quarter of the time."""
        values = [getattr(measurement, name) for measurement in self.measurements]
        quarter = max(1, len(values) // 4)
        return median(values[quarter : 2 * quarter]), median(values[-quarter:])


def main() -> int:
    """Soak a service, print and write the result; the exit status is 1 if a request was lost or a quantity grew."""
    options, console = _parser().parse_args(), Console(soft_wrap=True)
    with tempfile.TemporaryDirectory(prefix="latentd-soak-") as folder, Progress(console=console) as progress:
        task = progress.add_task("soaking", total=options.minutes * 60)
        soaked = soak(Path(folder), options.minutes * 60, lambda second: progress.update(task, completed=second))
    tables = _tables(soaked, options.minutes)
    page.show(tables, console)
    if options.out:
        draw(soaked, FIGURE)
        page.write("Soak", tables, options.out, [FIGURE])
    return 1 if problems(soaked) else 0


def soak(folder: Path, seconds: float, on_progress: OnProgress = lambda _: None) -> Soaked:
    """Send mixed traffic to a service of its own for some seconds."""
    with serving(folder, *FLAGS) as process:
        shelf = Shelf(Store(folder / "store"), "grey", folder / "workshop")
        soaked = asyncio.run(_soak(process, shelf, seconds, on_progress))
        soaked.harm = unharmed(process)
    return soaked


def problems(soaked: Soaked) -> list[str]:
    """The faults that were found: lost good requests, errors of the service's own, growth."""
    found = [f"{soaked.lost} good requests without a right answer"] if soaked.lost else []
    found += [f"{count} answers {status}" for status, count in soaked.statuses.items() if _is_ours(status)]
    return [*found, *_growth(soaked), *soaked.harm]


def _is_ours(status: str) -> bool:
    """Whether an answer is an error of the service's own."""
    return status.startswith("5") or status == TRACEBACK


def _growth(soaked: Soaked) -> list[str]:
    """The quantities that grew after the warm-up; none if the soak was too short to tell."""
    if len(soaked.measurements) < MIN_MEASUREMENTS:
        return []
    settled = [(quantity, *soaked.settled(quantity.name)) for quantity in QUANTITIES]
    return [f"{quantity.title}: grew from {early:.0f} to {late:.0f}"
            for quantity, early, late in settled if late > early + quantity.slack]  # fmt: skip


async def _soak(process: Process, shelf: Shelf, seconds: float, on_progress: OnProgress) -> Soaked:
    soaked, ends = Soaked(), time.monotonic() + seconds
    work = [_ask(process.address, ends, soaked) for _ in range(CALLERS // 3)]
    work += [_send_mutated(process.address, ends, soaked, seed) for seed in range(CALLERS // 3)]
    work += [_hang_up(process.address, ends, seed) for seed in range(CALLERS // 3)]
    await asyncio.gather(*work, _publish(shelf, ends, soaked), _watch(process, ends, seconds, soaked, on_progress))
    return soaked


async def _ask(address: Address, ends: float, soaked: Soaked) -> None:
    """Good requests over one connection; anything but 200 is a loss."""
    reader, writer = await asyncio.open_connection(*address)
    for content in cycle(good_requests.good()):
        if time.monotonic() >= ends:
            break
        writer.write(content)
        status = await _read_status(reader)
        soaked.statuses[status] += 1
        soaked.lost += status != "200"
    writer.close()


async def _read_status(reader: asyncio.StreamReader) -> str:
    """The status of one answer, which is read completely."""
    head = await reader.readuntil(b"\r\n\r\n")
    length = re.search(rb"(?i)\r\ncontent-length: (\d+)", head)
    body = await reader.readexactly(int(length[1])) if length else b""
    return _status_of(head + body)


def _status_of(answer: bytes) -> str:
    """The status of an answer, `closed` if there is none, or `traceback` if it holds one."""
    if b"Traceback" in answer:
        return TRACEBACK
    return answer[9:12].decode("latin-1") or "closed"


async def _send_mutated(address: Address, ends: float, soaked: Soaked, seed: int) -> None:
    """Mutated requests, each over its own connection."""
    for content in mutated(seed):
        if time.monotonic() >= ends:
            return
        reader, writer = await asyncio.open_connection(*address)
        with suppress(OSError, TimeoutError):
            writer.write(content)
            async with asyncio.timeout(LATE_S):
                answer = await reader.read(65_536)
            soaked.statuses[_status_of(answer)] += 1
        writer.transport.abort()


async def _hang_up(address: Address, ends: float, seed: int) -> None:
    """Good requests whose clients leave: at once, a little later, or in the middle of the answer."""
    chance, kinds = random.Random(seed), list(good_requests.good())  # noqa: S311  # it protects no secret
    while time.monotonic() < ends:
        reader, writer = await asyncio.open_connection(*address)
        content = chance.choice(kinds)
        writer.write(content[: chance.randrange(len(content))] if chance.random() < 0.5 else content)
        await asyncio.sleep(chance.choice((0, 0.001, 0.05)))
        if chance.random() < 0.3:
            with suppress(TimeoutError):
                await asyncio.wait_for(reader.read(10), 0.05)
        writer.transport.abort()


async def _publish(shelf: Shelf, ends: float, soaked: Soaked) -> None:
    """Add good and spoilt versions in turn; remove old ones, except the first, which good requests name."""
    for spoil in cycle(turn for spoilt in SPOILT for turn in (unspoilt, spoilt)):
        if time.monotonic() >= ends:
            return
        await asyncio.to_thread(shelf.add, spoil)
        for old in shelf.numbers()[1:-KEPT]:
            await asyncio.to_thread(shelf.remove, old)
        soaked.reloads += 1
        await asyncio.sleep(RELOAD_EVERY_S)


async def _watch(process: Process, ends: float, seconds: float, soaked: Soaked, on_progress: OnProgress) -> None:
    async with httpx.AsyncClient(base_url=process.url) as client:
        while time.monotonic() < ends:
            second = seconds - (ends - time.monotonic())
            soaked.measurements.append(await _measure(process.pid, client, second))
            on_progress(second)
            await asyncio.sleep(MEASURE_EVERY_S)


async def _measure(process: int, client: httpx.AsyncClient, second: float) -> Measurement:
    status = Path(f"/proc/{process}/status").read_text(encoding="ascii")
    memory = int(re.findall(r"VmRSS:\s+(\d+)", status)[0]) / 1024
    threads = int(re.findall(r"Threads:\s+(\d+)", status)[0])
    metrics = (await client.get("/metrics")).text
    tasks = float(re.findall(r"(?m)^latentd_tasks (\S+)$", metrics)[0])
    series = len(re.findall(r"(?m)^[^#]", metrics))
    return Measurement(second, memory, len(os.listdir(f"/proc/{process}/fd")), threads, int(tasks), series)


def _tables(soaked: Soaked, minutes: float) -> Sequence[page.Table]:
    about = machine(f"python -m tests.reliability.soak --minutes {minutes:g}") | {
        "traffic": f"{CALLERS} clients: a third send good requests, a third mutated ones, a third leave early",
        "requests answered": f"{soaked.statuses.total():,}",
        "by status": ", ".join(f"{status}: {count:,}" for status, count in sorted(soaked.statuses.items())),
        "good requests lost": str(soaked.lost),
        "versions published": f"{soaked.reloads}, every other one spoilt",
        "verdict": "; ".join(problems(soaked)) or "nothing lost, nothing grew",
    }
    rows = [_row(soaked, quantity) for quantity in QUANTITIES]
    note = "Medians of the second and of the last quarter of the time."
    return [
        page.Table("The run", ("", ""), list(about.items())),
        page.Table("What the service holds", ("", "second quarter", "last quarter", "most"), rows, note),
    ]


def _row(soaked: Soaked, quantity: Quantity) -> list[str]:
    most = max(getattr(measurement, quantity.name) for measurement in soaked.measurements)
    return [quantity.title, *(f"{value:,.0f}" for value in (*soaked.settled(quantity.name), most))]


def draw(soaked: Soaked, file: Path) -> None:
    """Draw each quantity over time."""
    figure, axes = plt.subplots(len(QUANTITIES), 1, figsize=(8, 8), sharex=True, layout="constrained")
    seconds = [measurement.second for measurement in soaked.measurements]
    for axis, quantity in zip(axes, QUANTITIES, strict=True):
        axis.plot(seconds, [getattr(measurement, quantity.name) for measurement in soaked.measurements], linewidth=1)
        axis.set_title(quantity.title, loc="left", fontsize="medium")
        axis.set_ylim(bottom=0, top=1.2 * axis.get_ylim()[1])
    axes[-1].set_xlabel("seconds of mixed traffic")
    file.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(file, dpi=110)
    plt.close(figure)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.reliability.soak", description=__doc__)
    parser.add_argument("--minutes", type=float, default=5.0, help="length of the soak (%(default)s)")
    parser.add_argument(
        "--out", type=Path, metavar="FILE", help="the page that gets the section, such as docs/reliability.md"
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
