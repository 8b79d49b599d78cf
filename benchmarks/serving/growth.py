"""How the cost grows with connections, with images in a request, and with pixels.

One curve is measured after another within a point, so that servers that are compared are close in time. Figures show
throughput and p99 on logarithmic axes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, StrMethodFormatter

from ..environments import OURS
from . import models
from .cases import BATCH_CONNECTIONS, Operation
from .load import Load, NoLoad
from .pictures import material
from .results import Point, Results
from .rounds import WARM_UP_S, start
from .running import Running, Shelf
from .servers import LATENTD, Server

CONNECTIONS = (1, 2, 4, 8, 16, 32, 64, 128, 256)
IMAGES = (1, 4, 16, 64, 128, 256, 512)
PIXELS = {28: models.MNIST, 32: "square-32", 64: "square-64", 128: models.PHOTO, 256: "square-256", 512: "square-512"}
LIMITS = {"max_images_per_request": 512, "queue_images": 4096}  # above the defaults, for the largest requests
PIXELS_CONNECTIONS = 16
SHARE = 0.4  # of a visit's seconds for each number of connections, since every server is measured
SINGLES = (Operation.ENCODE, Operation.SAMPLE)
AXES = ("connections", "images a request", "pixels a side")
Say = Callable[[str], None]


def measure(servers: Sequence[Server], seconds: float, scratch: Path, results: Results, say: Say) -> None:
    """Measure all three curves into `results`."""
    with ExitStack() as stack:
        shelf = _shelf(scratch / "connections", models.MNIST)
        asked = [server for server in servers if models.MNIST in server.networks]
        started = [start(stack, server, shelf, scratch / "with-connections", results, say) for server in asked]
        _add(results, _with_connections([one for one in started if one], max(1.0, seconds * SHARE)), say)
    _add(results, _with_images(seconds, scratch / "images", results, say), say)
    for side, network in PIXELS.items():
        _add(results, _with_pixels(side, network, seconds, scratch / network, results, say), say)


def _add(results: Results, points: Iterator[Point], say: Say) -> None:
    for point in points:
        results.points.append(point)
        say(f"  {point.x} {point.axis}, {point.curve}: {point.images_per_s:,.0f} images/s, p99 {point.p99_ms:.1f} ms")


def _with_connections(alive: Sequence[Running], seconds: float) -> Iterator[Point]:
    for operation in SINGLES:
        for connections in CONNECTIONS:
            for one in alive:
                seen = _seen(one, operation, connections, seconds)
                yield _point(AXES[0], connections, f"{one.server.name} {operation}", 1, seen)


def _with_images(seconds: float, scratch: Path, results: Results, say: Say) -> Iterator[Point]:
    """The curve over images in a request: our service alone, batches as npy."""
    larger = replace(LATENTD, options={**(LATENTD.options or {}), **LIMITS})
    whole = _shelf(scratch / "store", models.MNIST, max(IMAGES))
    for images in IMAGES:
        with ExitStack() as stack:
            one = start(stack, larger, _first(whole, images), scratch / str(images), results, say)
            if one is None:
                return
            for operation in (Operation.BATCH_ENCODE, Operation.BATCH_RECONSTRUCT):
                seen = _seen(one, operation, BATCH_CONNECTIONS, seconds)
                yield _point(AXES[1], images, operation, images, seen)


def _with_pixels(side: int, network: str, seconds: float, scratch: Path, results: Results, say: Say) -> Iterator[Point]:
    """The curve over pixels: our service alone, one picture in a request."""
    shelf = _shelf(scratch / "store", network, 16)
    with ExitStack() as stack:
        one = start(stack, replace(LATENTD, networks=(network,)), shelf, scratch / "server", results, say)
        if one is None:
            return
        for operation in SINGLES:
            yield _point(AXES[2], side, operation, 1, _seen(one, operation, PIXELS_CONNECTIONS, seconds))


def _seen(one: Running, operation: Operation, connections: int, seconds: float) -> Load:
    try:
        one.load(operation, connections, WARM_UP_S)
        return one.load(operation, connections, seconds)
    except NoLoad:
        return Load(0.0, math.inf, math.inf, errors=connections)  # the server has ended; the figure shows a gap


def _point(axis: str, x: int, curve: str, images: int, seen: Load) -> Point:
    return Point(axis, x, curve, seen.requests_per_s * images, seen.p99_ms, seen.errors)


def _shelf(root: Path, network: str, count: int = 64) -> Shelf:
    return Shelf(network, root, material(models.publish(root, network), None, count))


def _first(shelf: Shelf, images: int) -> Shelf:
    """The same store, with fewer images in a request."""
    whole = shelf.material
    few = replace(whole, pixels=whole.pixels[:images], latents=whole.latents[:images], decoded=whole.decoded[:images])
    return replace(shelf, material=few)


def draw(results: Results, folder: Path) -> list[Path]:
    """A figure for each curve that was measured, as PNG."""
    folder.mkdir(parents=True, exist_ok=True)
    axes = [axis for axis in AXES if any(point.axis == axis for point in results.points)]
    return [_draw(results, axis, folder / f"growth-{axis.replace(' ', '-')}.png") for axis in axes]


def _draw(results: Results, axis: str, path: Path) -> Path:
    """Throughput on the left, p99 on the right."""
    points = [point for point in results.points if point.axis == axis]
    with mpl.rc_context({"font.size": 9}):
        figure = Figure(figsize=(9, 3.6), layout="constrained")
        rates, tails = figure.subplots(1, 2)
        _plot(rates, points, "images_per_s", "images/s")
        _plot(tails, points, "p99_ms", "p99, ms")
        figure.legend(*tails.get_legend_handles_labels(), loc="outside right center", fontsize=7, frameon=False)
        figure.savefig(path, dpi=120)
    return path


def _plot(axes: Axes, points: Sequence[Point], name: str, unit: str) -> None:
    """A line for each curve, `SERVER OPERATION` or, where only we were asked, `OPERATION`; a gap for no answer.

    A colour for each first word, dashes for samples, and ours is thick.
    """
    words = list(dict.fromkeys(point.curve.split()[0] for point in points))
    for curve in dict.fromkeys(point.curve for point in points):
        own, word = [point for point in points if point.curve == curve], curve.split()[0]
        axes.plot(
            [point.x for point in own],
            [getattr(point, name) if point.images_per_s else math.nan for point in own],
            "--" if curve.endswith(Operation.SAMPLE) else "-",
            color=f"C{words.index(word)}",
            linewidth=2.2 if word in (OURS, curve) else 1.0,
            marker=".",
            label=curve,
        )
    axes.set(xscale="log", yscale="log", xlabel=points[0].axis, ylabel=unit)
    axes.set_xticks(sorted({point.x for point in points}))
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    for scale in (axes.xaxis, axes.yaxis):
        scale.set_major_formatter(StrMethodFormatter("{x:,g}"))
    axes.minorticks_off()
    axes.grid(alpha=0.3)
