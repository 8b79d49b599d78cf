"""`python -m benchmarks.gpu`: batches through our service beside the bare loop, the time of one sample, and memory.

It writes a section of its own into docs/benchmarks.md.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import httpx
import torch
from rich.console import Console

from .. import environments, page
from ..machine import machine
from ..serving import checks, models
from ..serving.cases import Operation
from ..serving.pictures import Material, material
from ..serving.process import Process
from ..serving.servers import LATENTD, bodies, free_ports, our_settings
from ..target import Target
from . import bare
from .client import Question, answer, load

START_S = 300.0
CONNECTIONS = 4
FLAT_AFTER = 1_000  # requests, after which the service allocates no more memory
TOLERANCE = 0.02  # of a latent; a GPU may multiply in TF32, which keeps ten bits


@dataclass(frozen=True)
class Batch:
    """A network, an operation, and the number of images in a request."""

    network: str
    operation: Operation
    images: int


BATCHES = (
    Batch(models.MNIST, Operation.BATCH_ENCODE, 64),
    Batch(models.MNIST, Operation.BATCH_DECODE, 64),
    Batch(models.MNIST, Operation.BATCH_RECONSTRUCT, 64),
    Batch("square-512", Operation.BATCH_DECODE, 16),
)


@dataclass(frozen=True)
class Measured:
    """Images/s of each round: our service's rate, and the rate and name of the best bare loop."""

    batch: Batch
    ours: list[float]
    limits: list[tuple[str, float]]

    @property
    def ratios(self) -> list[float]:
        """Our rate over the bare loop's, for each round."""
        return [mine / limit for mine, (_, limit) in zip(self.ours, self.limits, strict=True)]


@dataclass(frozen=True)
class Service:
    """Our running service: its port and its processes."""

    port: int
    process: Process


def main() -> None:
    """Measure, print the tables, and write them to `--out`."""
    options, console = _parser().parse_args(), Console(soft_wrap=True)
    device = torch.device(options.device)
    with tempfile.TemporaryDirectory(prefix="latentd-bench-") as folder:
        measured = [_batch(batch, Path(folder), device, options, console) for batch in BATCHES]
        targets = [*map(_at_limit, measured), *_single(Path(folder), device, options)]
    about = machine("python -m benchmarks.gpu") | {
        "device": _name(device),
        "client": "threads, closed loop, keep-alive",
    }
    tables = [
        page.Table("The run", ("", ""), list(about.items())),
        page.Table("Targets", ("target", "wanted", "found", ""), [target.cells() for target in targets]),
        page.Table("Batches", HEAD, list(map(_row, measured)), NOTE),
    ]
    page.show(tables, console)
    if options.out:
        page.write("On a GPU", tables, options.out)


HEAD = ("batch", "ours, images/s", "bare loop", "ours / bare", "best bare loop")
NOTE = (
    f"npy in, npy out, over {CONNECTIONS} connections; medians over rounds, and the ratio of each. The client is "
    "Python's, a thread for each connection. The bare loop has its batch on the device and copies nothing; each round "
    "has the best of eager, compiled and graph."
)


def _batch(batch: Batch, folder: Path, device: torch.device, options: argparse.Namespace, console: Console) -> Measured:
    """Measure batches through our service and through the bare loop, in turns; the first answer is checked."""
    console.print(f"{batch.network} {batch.operation}, {batch.images} images")
    store = folder / f"{batch.network}-{batch.operation}"
    model = models.publish(store, batch.network)
    known = material(model, None, batch.images)
    ours, limits = [], []
    with _running(store, options.device) as service:
        question = _question(service, batch, known)
        checks.compare(batch.operation, answer(question), known, TOLERANCE)
        load(question, CONNECTIONS, lambda _, seconds: seconds < 1)
        for _ in range(options.rounds):
            seen = load(question, CONNECTIONS, lambda _, seconds: seconds < options.seconds)
            ours.append(seen.requests_per_s * batch.images)
            limits.append(bare.best(model, batch.operation, batch.images, device, options.seconds / 3))
    return Measured(batch, ours, limits)


def _row(measured: Measured) -> Sequence[str]:
    batch, ratios = measured.batch, measured.ratios
    return (
        f"{batch.network}, {batch.operation}, {batch.images} images",
        f"{median(measured.ours):,.0f}",
        f"{median(limit for _, limit in measured.limits):,.0f}",
        f"{median(ratios):.2f} ({' '.join(f'{ratio:.2f}' for ratio in ratios)})",
        max(measured.limits, key=lambda limit: limit[1])[0],
    )


def _at_limit(measured: Measured) -> Target:
    name = f"{measured.batch.network} {measured.batch.operation}: images/s over the bare loop's best"
    return Target(name, 0.9, median(measured.ratios), at_least=True)


def _single(folder: Path, device: torch.device, options: argparse.Namespace) -> list[Target]:
    """Measure one sample at a time; then many, after which the memory must be the same."""
    store = folder / "single"
    models.publish(store, models.MNIST)
    with _running(store, options.device) as service:
        question = Question(service.port, "GET", "/v1/sample")
        alone = load(question, 1, lambda _, seconds: seconds < options.seconds)
        load(question, CONNECTIONS, lambda count, _: count < FLAT_AFTER / CONNECTIONS)
        before = _used_mib(service, device)
        load(question, CONNECTIONS, lambda count, _: count < options.requests / CONNECTIONS)
        grown = _used_mib(service, device) - before
    return [
        Target("mnist sample, 1 connection: p50 in ms", 2.0, median(alone.latencies_s) * 1e3, at_least=False),
        Target(f"MiB of memory gone after {options.requests:,} samples", 16.0, grown, at_least=False),
    ]


def _used_mib(service: Service, device: torch.device) -> float:
    """Memory of the service's processes and of the device, together."""
    used = service.process.pss_mib()
    if device.type == "cuda":
        free, total = torch.cuda.mem_get_info(device)
        used += (total - free) / 2**20
    return used


def _question(service: Service, batch: Batch, known: Material) -> Question:
    """The network and the inputs of the benchmark of servers."""
    route, (body,) = LATENTD.routes[batch.operation], bodies(batch.operation, known)
    return Question(service.port, route.method, route.path, body, route.headers)


@contextmanager
def _running(store: Path, device: str) -> Iterator[Service]:
    """Our service with the models of a store, once it is ready."""
    (port,) = free_ports(1)
    settings = our_settings({"port": port, "device": device, "store": store, "log_level": "warning"})
    process = Process([sys.executable, "-m", "service"], settings, environments.ROOT, store / "log")
    try:
        process.wait_until(lambda: _is_ready(port), START_S)
        yield Service(port, process)
    finally:
        process.end()


def _is_ready(port: int) -> bool:
    try:
        return httpx.get(f"http://127.0.0.1:{port}/readyz").is_success
    except httpx.TransportError:
        return False


def _name(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else str(device)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu", description=__doc__)
    parser.add_argument("--device", default="cuda", help="cpu only tries the benchmark itself (%(default)s)")
    parser.add_argument("--seconds", type=float, default=5.0, help="seconds of each measurement (%(default)s)")
    parser.add_argument("--rounds", type=int, default=3, help="how often everything is measured (%(default)s)")
    parser.add_argument(
        "--requests", type=int, default=100_000, help="number of requests after which memory is compared (%(default)s)"
    )
    parser.add_argument("--out", type=Path, metavar="FILE", help="a page whose section is written, docs/benchmarks.md")
    return parser


if __name__ == "__main__":
    main()
