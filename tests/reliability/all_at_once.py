"""`python -m tests.reliability.all_at_once`: good clients beside all attacks at once, each with many connections.

The service has its default settings, and the memory of a small container where a control group can be made. Each attack
is a client with an address of its own. The result is a section of docs/reliability.md.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from statistics import quantiles
from typing import NamedTuple

import numpy as np
from rich.console import Console

from benchmarks import page
from benchmarks.machine import machine
from model_store import Store

from ..conftest import make_model
from ..process import Process, unharmed
from ..service.wire import saved
from . import attackers, costly
from .attackers import Attacker
from .costs import LATENT_VALUES, MODEL, watched_memory
from .good_client import Asked, asking
from .good_requests import HOST, png, request
from .memory_group import MemoryGroup

MEMORY = 2 * 2**30  # bytes of the group, which docs/how-to/bound-the-memory.md promises to be enough
IDLE_S, SETTLE_S = 10.0, 4.0  # before the siege, and after it, so that answers that are late arrive too
ENDED_S = 40.0  # a body has 30 s; the kernel of a client that has left may go on sending it
ENCODE = "/v1/encode?resize=stretch&format=npy"
PNG = costly.PNG.decode()


class Scale(NamedTuple):
    """The size of the siege: connections of each attack, and seconds."""

    connections: int
    seconds: float


class Limits(NamedTuple):
    """The allowed limits: p99 of a probe, p99 of small requests in times of the one before, seconds of large ones."""

    probe_ms: float
    small_times: float
    large_s: float


FULL, SHORT = Scale(64, 20), Scale(8, 3)
STRICT = Limits(probe_ms=100, small_times=5, large_s=1)
BUSY = Limits(probe_ms=2000, small_times=200, large_s=20)  # where other programs use the machine too


class Good(NamedTuple):
    """A good client: its address, what it sends, its pause; a large request may be refused with 429."""

    target: str
    pause_s: float
    content_type: str = ""
    body: Callable[[], bytes] | None = None
    is_large: bool = False


class Attack(NamedTuple):
    """One attack: the way in which each connection sends the request."""

    way: attackers.Way
    request: Callable[[], bytes]


GOOD = {
    "probe": Good("/livez", 0.005),
    "one sample": Good("/v1/sample", 0.02),
    "one small picture": Good(ENCODE, 0.02, PNG, png),
    "a picture of 4 megapixels": Good(ENCODE, 0.3, PNG, lambda: saved(costly.noise(channels=1), "PNG"), is_large=True),
    "256 small pictures": Good(
        ENCODE, 0.1, costly.MULTIPART.decode(), lambda: next(costly.forms()).make(), is_large=True
    ),
}


def _get(target: str, headers: bytes = b"") -> Attack:
    return Attack(attackers.ask, lambda: b"GET %b HTTP/1.1\r\n%b%b\r\n" % (target.encode(), HOST, headers))


def _costly(name: str, way: attackers.Way = attackers.ask) -> Attack:
    return Attack(way, next(each.make for each in costly.requests(LATENT_VALUES) if each.name == name))


def _head(content_type: bytes, length: bytes) -> bytes:
    return b"POST /v1/encode HTTP/1.1\r\n%bContent-Type: %b\r\n%b\r\n" % (HOST, content_type, length)


ATTACKS: Mapping[str, Attack] = {
    "pictures of noise": _costly("PNG: transparent noise"),
    "progressive pictures": _costly("JPEG: progressive noise"),
    "pictures of many chunks": _costly("PNG: empty texts, each with its own key"),
    "forms": _costly("multipart: beginnings of the boundary"),
    "pictures in JSON": _costly("JSON: four of four million pixels"),
    "numbers in JSON": _costly("JSON: zeros"),
    "arrays": _costly("npy: uint8, 256 of 128×128"),
    "large requests of clients that leave": _costly("WebP: noise without loss", attackers.ask_and_leave),
    "chunks of one byte": Attack(attackers.send_chunks, lambda: _head(costly.PNG, b"Transfer-Encoding: chunked\r\n")),
    "bodies without their last byte": Attack(
        attackers.send_and_wait, lambda: request(b"POST", b"/v1/encode", costly.PNG, bytes(65_536))[:-1]
    ),
    "large bodies without their last byte": Attack(
        attackers.send_and_wait, lambda: request(b"POST", b"/v1/encode", costly.PNG, bytes(costly.BODY))[:-1]
    ),
    "small GETs": _get("/v1/sample"),
    "256 samples as JSON": _get("/v1/sample?n=256&format=json"),
    "256 samples as WebP": _get("/v1/sample?n=256&format=webp"),
    "256 samples as PNG": _get("/v1/sample?n=256&format=png"),
    "metrics": _get("/metrics"),
    "the OpenAPI": _get("/openapi.json"),
    "bodies in a row": Attack(
        attackers.ask_in_a_row,
        lambda: request(b"POST", ENCODE.encode(), costly.NPY, costly.ones((4, 64, 64), np.uint8)),
    ),
    "answers taken slowly": Attack(
        attackers.take_slowly, lambda: b"GET /static-offline-docs/swagger-ui-bundle.js HTTP/1.1\r\n%b\r\n" % HOST
    ),
    "clients that half-close": Attack(
        attackers.ask_and_half_close, lambda: b"GET /v1/sample?n=16 HTTP/1.1\r\n%b\r\n" % HOST
    ),
    "silent heads": Attack(attackers.send_and_wait, lambda: b"GET /v1/sample HTTP/1.1\r\n%bX: " % HOST),
    "heads by bytes": Attack(
        attackers.send_by_bytes, lambda: b"GET /v1/sample HTTP/1.1\r\n%bX: %b" % (HOST, b"y" * 9000)
    ),
    "pages of other sites": _get("/v1/sample", b"Origin: https://example.org\r\nSec-Fetch-Site: cross-site\r\n"),
    "wrong keys": _get("/v1/models", b"Authorization: Bearer wrong\r\n"),
}


@dataclass
class Stormed:
    """The result: what good clients got before and during the siege, what the attackers got, and the memory."""

    alone: dict[str, list[Asked]] = field(default_factory=dict)
    meanwhile: dict[str, list[Asked]] = field(default_factory=dict)
    attackers: dict[str, Counter[str]] = field(default_factory=dict)
    memory_mib: float = 0.0  # the most of all processes of the service, without the files that they read
    group_mib: float | None = None  # the most of the control group, with files
    killed: int = 0
    harm: list[str] = field(default_factory=list)


def main() -> int:
    """Attack a service, print and write the result; the exit status is 1 if it has faults."""
    options, console = _parser().parse_args(), Console(soft_wrap=True)
    names = [name for name in ATTACKS if options.only in name]
    with tempfile.TemporaryDirectory(prefix="latentd-siege-") as folder:
        found = storm(Path(folder), FULL, names, f"--workers={options.workers}")
    tables = _tables(found)
    page.show(tables, console)
    if options.out:
        page.write("All attacks at once", tables, options.out)
    for problem in problems(found, STRICT):
        console.print(problem, style="bold red")
    return 1 if problems(found, STRICT) else 0


def storm(folder: Path, scale: Scale, names: Sequence[str] = tuple(ATTACKS), *flags: str) -> Stormed:
    """Attack a service of its own."""
    found = Stormed()
    store = Store(folder / "store")
    store.publish("colour", make_model(MODEL))
    with _bounded() as group:
        with group.joined() if group else nullcontext():
            process = Process(store.root, "--reload-s=0", *flags)
        try:
            process.collect_log()
            process.wait_until_ready()
            with watched_memory(process.pid) as memory:
                asyncio.run(_storm(process, folder, scale, names, found))
            found.memory_mib = max(memory)
            found.harm = unharmed(process, ENDED_S)
            if group:
                found.group_mib, found.killed = group.most_mib(), group.killed()
        finally:
            process.kill()
    return found


def problems(found: Stormed, limits: Limits) -> list[str]:
    """The faults that were found: good clients lost or slow, bugs, processes killed."""
    wrong = [*found.harm]
    for name, asked in found.meanwhile.items():
        right = {200, 429} if GOOD[name].is_large else {200}
        statuses = Counter(each.status for each in asked)
        wrong += [f"{name}: {count} answers {status}" for status, count in statuses.items() if status not in right]
        wrong += _slowness(name, found.alone[name], asked, limits)
    wrong += [f"{name}: {count} answers 500" for name, got in found.attackers.items() if (count := got["500"])]
    if found.killed:
        wrong.append(f"{found.killed} processes were killed for want of memory")
    return wrong


def _slowness(name: str, alone: Sequence[Asked], meanwhile: Sequence[Asked], limits: Limits) -> list[str]:
    """A good client whose answers are too slow, or who has none."""
    if not meanwhile:
        return [f"{name}: no answer"]
    if GOOD[name].is_large:
        most_ms = max(each.took_ms for each in meanwhile)
        return [f"{name}: answered after {most_ms:.0f} ms"] if most_ms > limits.large_s * 1e3 else []
    allowed_ms = limits.probe_ms if name == "probe" else limits.small_times * _quantile(alone, 99)
    p99_ms = _quantile(meanwhile, 99)
    return [f"{name}: p99 {p99_ms:.1f} ms, allowed {allowed_ms:.1f}"] if p99_ms > allowed_ms else []


def _quantile(asked: Sequence[Asked], percent: int) -> float:
    """The time in ms below which a percentage of the requests was answered."""
    return quantiles([asked[0].took_ms, *(each.took_ms for each in asked)], n=100, method="inclusive")[percent - 1]


@contextmanager
def _bounded() -> Iterator[MemoryGroup | None]:
    """A control group, where this machine lets us make one."""
    try:
        group = MemoryGroup(MEMORY)
    except OSError:
        yield None
        return
    try:
        yield group
    finally:
        group.close()


async def _storm(process: Process, folder: Path, scale: Scale, names: Sequence[str], found: Stormed) -> None:
    """Good clients alone, and then beside all attackers."""
    bodies = {name: folder / f"good-{number}" for number, name in enumerate(GOOD)}
    async with AsyncExitStack() as good_clients:
        attacking = await _ready(names, process, folder, scale)
        asked: dict[str, list[Asked]] = {}
        for name, good in GOOD.items():
            body = () if good.body is None else (good.content_type, str(bodies[name]))
            bodies[name].write_bytes(good.body() if good.body else b"")
            client = asking(f"{process.url}{good.target}", good.pause_s, *body)
            asked[name] = await good_clients.enter_async_context(client)
        begins_s = time.monotonic()
        await asyncio.sleep(IDLE_S)
        attacked_s = time.monotonic()
        told, _ = await attacking.communicate(b"\n")
        ends_s = time.monotonic()
        await asyncio.sleep(SETTLE_S)
    found.attackers = dict(zip(names, map(Counter, json.loads(told)), strict=True))
    for name, each in asked.items():
        found.alone[name] = [one for one in each if begins_s <= one.at_s < attacked_s]
        found.meanwhile[name] = [one for one in each if attacked_s <= one.at_s < ends_s]


async def _ready(names: Sequence[str], process: Process, folder: Path, scale: Scale) -> asyncio.subprocess.Process:
    """The attackers, who wait for the signal to begin."""
    clients = []
    for number, name in enumerate(names, start=2):
        file = folder / f"attack-{number}"
        file.write_bytes(ATTACKS[name].request())
        address = f"127.0.0.{number}"
        clients.append(Attacker(ATTACKS[name].way.__name__, str(file), process.address[1], address, *scale))
    (folder / "attackers.json").write_text(json.dumps(clients), encoding="utf-8")
    attacking = await asyncio.create_subprocess_exec(
        sys.executable, "-m", attackers.__name__, str(folder / "attackers.json"),
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, start_new_session=True,
    )  # fmt: skip
    assert attacking.stdout
    await attacking.stdout.readline()
    return attacking


def _tables(found: Stormed) -> Sequence[page.Table]:
    group = "no control group could be made here" if found.group_mib is None else (
        f"at most {found.group_mib:,.0f} MiB of the {MEMORY // 2**20:,} of its control group; {found.killed} killed"
    )  # fmt: skip
    about = machine("python -m tests.reliability.all_at_once") | {
        "siege": f"the attacks of the last table together for {FULL.seconds:g} s, each from an address of its own with "
        f"{FULL.connections} connections, on the machine of the service, with the lowest priority",
        "service": f"default settings; images {MODEL.image_shape}, latents {MODEL.latent_shape}",
        "memory": f"at most {found.memory_mib:,.0f} MiB, all processes together, without files; {group}",
        "allowed": f"/livez: p99 of {STRICT.probe_ms:g} ms; small requests: 200, with a p99 of {STRICT.small_times:g} "
        f"times the one before; large requests: 200 or 429 within {STRICT.large_s:g} s",
        "verdict": "; ".join(problems(found, STRICT)) or "all of that was kept",
    }
    good = [_row(name, when, asked) for name in GOOD
            for when, asked in (("alone", found.alone[name]), ("besieged", found.meanwhile[name]))]  # fmt: skip
    got = [[name, _counted(statuses)] for name, statuses in found.attackers.items()]
    return [
        page.Table("The run", ("", ""), list(about.items())),
        page.Table("The good clients, ms", ("", "", "answers", "p50", "p99", "most"), good),
        page.Table("The attackers", ("", "answers"), got),
    ]


def _row(name: str, when: str, asked: Sequence[Asked]) -> list[str]:
    statuses = _counted(Counter(str(each.status) for each in asked))
    if not asked:
        return [name, when, statuses, *[page.NOTHING] * 3]
    times = (_quantile(asked, 50), _quantile(asked, 99), max(each.took_ms for each in asked))
    return [name, when, statuses, *(f"{each:,.1f}" for each in times)]


def _counted(statuses: Counter[str]) -> str:
    return ", ".join(f"{status}: {count:,}" for status, count in sorted(statuses.items())) or "none"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.reliability.all_at_once", description=__doc__)
    parser.add_argument("--only", default="", metavar="TEXT", help="only attacks with this text in their names")
    parser.add_argument("--workers", type=int, default=1, help="processes of the service")
    parser.add_argument(
        "--out", type=Path, metavar="FILE", help="the page that gets the section, such as docs/reliability.md"
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
