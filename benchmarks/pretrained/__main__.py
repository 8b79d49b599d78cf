"""`python -m benchmarks.pretrained --taef2 DIR --photo FILE`: other people's autoencoders, served and bare.

All servers run at the same time, and one at a time has work. Needs the extra `diffusers`, and tcmalloc (on Debian
`libtcmalloc-minimal4`). The answers of the plain route are the reference with which ours are compared.
"""

from __future__ import annotations

import argparse
import io
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from math import log10
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

import httpx
import numpy as np
from PIL import Image
from rich.console import Console

from .. import page
from ..environments import ROOT
from ..machine import machine
from ..serving.process import Process
from ..serving.servers import free_ports
from .networks import KL, TAEF2, put_into, save_kl

START_S, ANSWER_S = 300.0, 900.0
CONNECTIONS = 1, 4
SIZES = 512, 1024
LARGE = 1024
PLAIN, AUTO, IMAGE, FLOAT32, BARE = "plain route", "latentd", "latentd with tcmalloc", "latentd, float32", "bare"
TCMALLOC = "libtcmalloc_minimal.so.4"  # the allocator of the Dockerfile
FORMATS = ["PNG", "JPEG"]


class Cell(NamedTuple):
    """A model, an operation, the side of the picture, and the connections that ask at the same time."""

    model: str
    operation: str
    size: int
    connections: int


class Seen(NamedTuple):
    """Seconds for each picture, the peak of the memory in MiB, and the last answer."""

    seconds: float
    peak_mib: float
    answer: np.ndarray


class Server(NamedTuple):
    """A server that runs: its address by operation, and its process."""

    urls: Mapping[str, str]
    process: Process


def main() -> None:
    """Measure, print tables, and write them into the page that `--out` names."""
    options, console = _parser().parse_args(), Console(soft_wrap=True)
    found: dict[tuple[Cell, str], Seen] = {}
    with tempfile.TemporaryDirectory() as scratch:
        for model in options.models:
            source = options.taef2 if model == TAEF2 else Path(scratch, "kl")
            if model == KL:
                save_kl(source, is_quick=options.quick)
            measure(model, source, options, Path(scratch), found, console)
            sizes, connections = (" ".join(map(str, each)) for each in (options.sizes, options.connections))
            asked = f"--models {model} --sizes {sizes} --connections {connections} --seconds {options.seconds:g}"
            run = machine(f"python -m benchmarks.pretrained {asked}") | ABOUT
            tables = [page.Table("The run", ("", ""), list(run.items())), *tables_of(model, found)]
            page.show(tables, console)
            if options.out:
                page.write(TITLES[model], tables, options.out)


TITLES = {
    TAEF2: "Pretrained autoencoders: TAEF2",
    KL: "Pretrained autoencoders: AutoencoderKL of Stable Diffusion's size",
}
ABOUT = {
    "ours": "one process, default settings but for a longer deadline; `dtype=auto`, and float32",
    "ours in the image": "with the allocator of our Dockerfile, tcmalloc; all others with the system's",
    "plain route": "diffusers (for TAEF2 its authors' table of layers) in float32 in a FastAPI route",
    "peak": "the most proportional memory (PSS) of all processes of a server, in a round that is not timed",
    "answers": "PSNR of our answer to the plain route's: 8-bit pictures, and latents relative to their range",
}


def measure(
    model: str,
    source: Path,
    options: argparse.Namespace,
    scratch: Path,
    found: dict[tuple[Cell, str], Seen],
    console: Console,
) -> None:
    """Measure all cells of a model into `found`: in each cell the servers in turn, and the bare network."""
    photo, store = Image.open(options.photo, formats=FORMATS).convert("RGB"), scratch / f"store-{model}"
    pictures = scratch / f"photos-{model}"
    pictures.mkdir()
    photo.resize((256, 256) if options.quick else (512, 512)).save(pictures / "photo.png")
    console.print(f"{model}: import")
    put_into(store, model, source, pictures)
    cells = [
        Cell(model, operation, size, connections)
        for size in ((64, 128) if options.quick else options.sizes)
        for operation in ("encode", "decode")
        for connections in options.connections
        if model == TAEF2 or connections == 1 or size < LARGE  # four large pictures take a quarter of an hour
    ]
    with ExitStack() as stack:
        servers = {
            PLAIN: stack.enter_context(plain(model, source, scratch)),
            AUTO: stack.enter_context(latentd(model, store, scratch, "auto")),
            IMAGE: stack.enter_context(latentd(model, store, scratch, "auto", {"LD_PRELOAD": TCMALLOC})),
            FLOAT32: stack.enter_context(latentd(model, store, scratch, "float32")),
        }
        for size in sorted({cell.size for cell in cells}):
            bodies = material(photo, size, servers[PLAIN])
            for cell in (cell for cell in cells if cell.size == size):
                times = max(1, round(options.seconds / (20 if model == KL else 1)))
                for name, server in servers.items():
                    seen = found[cell, name] = ask(server, cell, bodies[cell.operation], times)
                    about = f"{cell.operation} {size} × {cell.connections}, {name}"
                    console.print(f"  {about}: {seen.seconds:.3f} s, {seen.peak_mib:,.0f} MiB")
                if cell.connections == 1:
                    found[cell, BARE] = bare(model, source, cell, bodies[cell.operation], times, scratch)
                    console.print(f"  {cell.operation} {size}, bare: {found[cell, BARE].seconds:.3f} s")


@contextmanager
def plain(model: str, source: Path, scratch: Path) -> Iterator[Server]:
    """The plain route."""
    (port,) = free_ports(1)
    command = [sys.executable, "-m", "benchmarks.pretrained.plain_route", model, str(source), str(port)]
    urls = {operation: f"http://127.0.0.1:{port}/{operation}" for operation in ("encode", "decode")}
    with running(command, {}, scratch / f"log-plain-{model}", f"http://127.0.0.1:{port}/docs") as process:
        yield Server(urls, process)


@contextmanager
def latentd(
    model: str, store: Path, scratch: Path, dtype: str, environment: Mapping[str, str] = MappingProxyType({})
) -> Iterator[Server]:
    """Our service, which may take as much time and memory for one image as the plain route."""
    (port,) = free_ports(1)
    command = [sys.executable, "-m", "service", "--store", str(store), "--port", str(port), "--dtype", dtype]
    limits = {
        "LATENTD_TIMEOUT_S": str(ANSWER_S),
        "LATENTD_HANG_S": str(ANSWER_S),
        "LATENTD_MAX_COMPUTE_BYTES": str(2**34),
    }
    base = f"http://127.0.0.1:{port}"
    urls = {
        operation: f"{base}/v1/models/{model}/{operation}?format=npy&tile=never" for operation in ("encode", "decode")
    }
    log = scratch / f"log-{'-'.join([dtype, *environment, model])}"
    with running(command, {**limits, **environment}, log, f"{base}/readyz") as process:
        if environment and not all("tcmalloc" in Path(f"/proc/{pid}/maps").read_text() for pid in process.members()):
            raise SystemExit(f"{TCMALLOC} was not loaded; on Debian: apt-get install libtcmalloc-minimal4")
        yield Server(urls, process)


@contextmanager
def running(command: Sequence[str], environment: Mapping[str, str], log: Path, ready: str) -> Iterator[Process]:
    """A server that answers; it is ended with the block."""

    def is_ready() -> bool:
        try:
            return httpx.get(ready).status_code == httpx.codes.OK
        except httpx.TransportError:
            return False

    process = Process(command, environment, ROOT, log)
    try:
        process.wait_until(is_ready, START_S)
        yield process
    finally:
        process.end()


def material(photo: Image.Image, size: int, server: Server) -> dict[str, bytes]:
    """The bodies by operation: a square part of the photograph as PNG, and its latents as npy."""
    side = min(photo.size)
    buffer = io.BytesIO()
    photo.crop((0, 0, side, side)).resize((size, size)).save(buffer, "PNG")
    picture = buffer.getvalue()
    return {"encode": picture, "decode": post(server.urls["encode"], picture, "image/png")}


def post(url: str, body: bytes, kind: str) -> bytes:
    """The body of an answer."""
    answer = httpx.post(url, content=body, headers={"Content-Type": kind}, timeout=ANSWER_S)
    answer.raise_for_status()
    return answer.content


def ask(server: Server, cell: Cell, body: bytes, times: int) -> Seen:
    """Ask on some connections at the same time, `times` on each; the last answer is compared later.

    A round before has one request on each connection. It prepares what a server prepares once for each size, and its
    memory is looked at: each look holds up a process that asks the system for memory, so time is not measured then.
    """
    url, kind = server.urls[cell.operation], "image/png" if cell.operation == "encode" else "application/x-npy"

    def ask_times(count: int) -> bytes:
        return [post(url, body, kind) for _ in range(count)][-1]

    with ThreadPoolExecutor(cell.connections) as pool:
        with watched(server.process) as peak:
            list(pool.map(ask_times, [1] * cell.connections))
        began = time.perf_counter()
        answers = [*pool.map(ask_times, [times] * cell.connections)]
        seconds = (time.perf_counter() - began) / (times * cell.connections)
    return Seen(seconds, peak[0], np.load(io.BytesIO(answers[-1])))


def bare(model: str, source: Path, cell: Cell, body: bytes, times: int, scratch: Path) -> Seen:
    """The network alone, in a process of its own."""
    given = scratch / "input.npy"
    if cell.operation == "encode":
        pixels = np.asarray(Image.open(io.BytesIO(body), formats=FORMATS), np.float32) / 255
        np.save(given, pixels.transpose(2, 0, 1)[None])
    else:
        given.write_bytes(body)
    log = scratch / f"log-bare-{model}"
    command = [
        sys.executable,
        "-m",
        "benchmarks.pretrained.bare",
        model,
        str(source),
        cell.operation,
        str(given),
        str(times),
    ]
    process = Process(command, {}, ROOT, log)
    while process.members():
        time.sleep(0.05)
    process.end()
    return Seen(float(log.read_text().split()[-1]), 0.0, np.empty(0))


@contextmanager
def watched(process: Process) -> Iterator[list[float]]:
    """A list with the peak of a process's memory in MiB, which is complete when the block ends."""
    peak, is_over = [process.pss_mib()], threading.Event()

    def look() -> None:
        while not is_over.wait(0.05):
            peak[0] = max(peak[0], process.pss_mib())

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield peak
    finally:
        is_over.set()
        thread.join()


def agreement_db(ours: np.ndarray, theirs: np.ndarray) -> float:
    """The PSNR of an array to the reference, whose range is the peak; for uint8 the peak is 255."""
    peak = 255.0 if theirs.dtype == np.uint8 else float(theirs.max() - theirs.min())
    error = float(np.mean((ours.astype(np.float64) - theirs.astype(np.float64)) ** 2))
    return 10 * log10(peak**2 / error) if error else float("inf")


def tables_of(model: str, found: Mapping[tuple[Cell, str], Seen]) -> list[page.Table]:
    """The seconds, and the memory and the agreement, with a line for each cell of a model."""
    times, sizes = [], []
    for cell in dict.fromkeys(cell for cell, _ in found if cell.model == model):
        name = f"{cell.operation} {cell.size}×{cell.size}, {cell.connections} at once"
        theirs, auto, image, full = (found[cell, server] for server in (PLAIN, AUTO, IMAGE, FLOAT32))
        alone = found.get((cell, BARE))
        seconds = [f"{seen.seconds:.2f}" for seen in (theirs, auto, image, full)]
        ratios = [f"{theirs.seconds / seen.seconds:.2f}" for seen in (auto, image, full)]
        times.append([name, *seconds, f"{alone.seconds:.2f}" if alone else page.NOTHING, *ratios])
        memory = [f"{seen.peak_mib:,.0f}" for seen in (theirs, auto, image, full)]
        shares = [f"{seen.peak_mib / theirs.peak_mib:.2f}" for seen in (auto, image)]
        agreements = [f"{agreement_db(seen.answer, theirs.answer):.1f}" for seen in (auto, full)]
        sizes.append([name, *memory, *shares, *agreements])
    names = ["ours", "ours in the image", "ours, float32"]
    time_head = ["", "plain", *names, "bare", *(f"plain / {name}" for name in names)]
    size_head = ["", "plain", *names, "ours / plain", "in the image / plain", "ours, dB", "ours, float32, dB"]
    return [
        page.Table(f"`{model}`: seconds for each picture", time_head, times),
        page.Table(f"`{model}`: MiB at the peak, and the agreement with the plain route", size_head, sizes),
    ]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.pretrained", description=__doc__)
    parser.add_argument("--taef2", type=Path, required=True, help="folder with taef2_encoder.pth and taef2_decoder.pth")
    parser.add_argument("--photo", type=Path, required=True, help="a photograph")
    parser.add_argument("--models", nargs="+", choices=(TAEF2, KL), default=[TAEF2, KL])
    parser.add_argument("--sizes", nargs="+", type=int, default=SIZES, help="sides of the pictures")
    parser.add_argument("--connections", nargs="+", type=int, default=CONNECTIONS, help="that ask at the same time")
    parser.add_argument("--seconds", type=float, default=10, help="seconds of each measurement, roughly")
    parser.add_argument("--quick", action="store_true", help="small networks and pictures: to try the benchmark")
    parser.add_argument("--out", type=Path, help="page whose section is written, such as docs/benchmarks.md")
    return parser


if __name__ == "__main__":
    main()
