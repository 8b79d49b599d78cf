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

from model_store.vae.noise import standard_normal

from .. import environments, page
from ..machine import machine
from ..serving import models
from ..serving.cases import Operation
from ..serving.pictures import channels_last, npy, photos
from ..serving.process import Process
from ..serving.servers import free_ports, our_settings
from ..serving.targets import Target
from . import bare
from .client import Question, load

START_S = 300.0
CONNECTIONS = 4
FLAT_AFTER = 1_000  # requests, by when everything has been allocated that ever will be
NPY = "application/x-npy"


@dataclass(frozen=True)
class Batch:
    """A network, an operation, and how many images a request has."""

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
class Service:
    """Our service as it runs: its port and its processes."""

    port: int
    process: Process


def main() -> None:
    """Measure, print tables, and write them where `--out` says."""
    options, console = _parser().parse_args(), Console(soft_wrap=True)
    device = torch.device(options.device)
    with tempfile.TemporaryDirectory(prefix="latentd-bench-") as folder:
        rows = [_batch(batch, Path(folder), device, options, console) for batch in BATCHES]
        targets = [_at_limit(batch, row) for batch, row in zip(BATCHES, rows, strict=True)]
        targets += _single(Path(folder), options)
    about = machine("python -m benchmarks.gpu") | {
        "device": _name(device),
        "client": "threads, closed loop, keep-alive",
    }
    tables = [
        page.Table("The run", ("", ""), list(about.items())),
        page.Table("Targets", ("target", "wanted", "found", ""), [target.cells() for target in targets]),
        page.Table("Batches", ("batch", "ours, images/s", "bare loop", "ours / bare", "best bare loop"), rows, NOTE),
    ]
    page.show(tables, console)
    if options.out:
        page.write("On a GPU", tables, options.out)


NOTE = (
    f"npy in, npy out, over {CONNECTIONS} connections; medians over rounds, and the ratio of each. The client is "
    "Python's, a thread for each connection. The bare loop has its batch on the device and copies nothing; each round "
    "has the best of eager, compiled and graph."
)


def _batch(
    batch: Batch, folder: Path, device: torch.device, options: argparse.Namespace, console: Console
) -> Sequence[str]:
    """A row of the table."""
    console.print(f"{batch.network} {batch.operation}, {batch.images} images")
    store = folder / f"{batch.network}-{batch.operation}"
    model = models.publish(store, batch.network)
    question_body = _body(batch, model.config.image_shape, model.config.latent_shape)
    path = f"/v1/{batch.operation.removeprefix('batch-')}?format=npy"
    ours, limits = [], []
    with _running(store, options.device) as service:
        question = Question(service.port, "POST", path, question_body, NPY)
        load(question, CONNECTIONS, lambda _, seconds: seconds < 1)
        for _ in range(options.rounds):
            seen = load(question, CONNECTIONS, lambda _, seconds: seconds < options.seconds)
            ours.append(seen.requests_per_s * batch.images)
            limits.append(bare.best(model, batch.operation, batch.images, device, options.seconds / 3))
    ratios = [mine / limit for mine, (_, limit) in zip(ours, limits, strict=True)]
    return (
        f"{batch.network}, {batch.operation}, {batch.images} images",
        f"{median(ours):,.0f}",
        f"{median(limit for _, limit in limits):,.0f}",
        f"{median(ratios):.2f} ({' '.join(f'{ratio:.2f}' for ratio in ratios)})",
        max(limits, key=lambda limit: limit[1])[0],
    )


def _at_limit(batch: Batch, row: Sequence[str]) -> Target:
    name = f"{batch.network} {batch.operation}: images/s over the bare loop's best"
    return Target(name, 0.9, float(row[3].split()[0]), at_least=True)


def _single(folder: Path, options: argparse.Namespace) -> list[Target]:
    """One sample at a time; then many, after which no memory may be gone."""
    store = folder / "single"
    models.publish(store, models.MNIST)
    with _running(store, options.device) as service:
        question = Question(service.port, "GET", "/v1/sample")
        alone = load(question, 1, lambda _, seconds: seconds < options.seconds)
        load(question, CONNECTIONS, lambda count, _: count < FLAT_AFTER / CONNECTIONS)
        before = _used_mib(service)
        load(question, CONNECTIONS, lambda count, _: count < options.requests / CONNECTIONS)
        grown = _used_mib(service) - before
    return [
        Target("mnist sample, 1 connection: p50 in ms", 2.0, median(alone.latencies_s) * 1e3, at_least=False),
        Target(f"MiB of memory gone after {options.requests:,} samples", 16.0, grown, at_least=False),
    ]


def _used_mib(service: Service) -> float:
    """Memory of the service's processes and of the device, together."""
    used = service.process.pss_mib()
    if torch.cuda.is_available():
        free, total = torch.cuda.mem_get_info()
        used += (total - free) / 2**20
    return used


def _body(batch: Batch, image_shape: tuple[int, int, int], latent_shape: tuple[int, ...]) -> bytes:
    if batch.operation is Operation.BATCH_DECODE:
        return npy(standard_normal(0, batch.images, latent_shape))
    return npy(channels_last(photos(image_shape, batch.images)))


@contextmanager
def _running(store: Path, device: str) -> Iterator[Service]:
    """Our service with the models of a store, when it is ready."""
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
    parser.add_argument("--device", default="cuda", help="cpu tries the benchmark itself (%(default)s)")
    parser.add_argument("--seconds", type=float, default=5.0, help="of each measurement (%(default)s)")
    parser.add_argument("--rounds", type=int, default=3, help="(%(default)s)")
    parser.add_argument("--requests", type=int, default=100_000, help="after which memory is compared (%(default)s)")
    parser.add_argument("--out", type=Path, metavar="FILE", help="a page whose section is written, docs/benchmarks.md")
    return parser


if __name__ == "__main__":
    main()
