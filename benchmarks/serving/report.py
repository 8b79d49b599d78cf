"""The tables in which a run is reported."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import median

from ..environments import OURS
from ..page import NOTHING, Table
from .cases import BATCH_CONNECTIONS, IMAGES_PER_BATCH, Case, Operation
from .models import MNIST, PHOTO
from .results import Results, batch_operations, images_per_s, ratios
from .targets import peers, targets

TITLES = {MNIST: "A, the shipped `mnist` (1×28×28)", PHOTO: "B, `photo` (3×128×128, random weights)"}


def tables(results: Results) -> list[Table]:
    """Every table for which the run has measurements."""
    found = [_machine(results), _servers(results), _targets(results)]
    for network, operation in dict.fromkeys((case.network, case.operation) for case in results.cases()):
        if operation.images == 1:
            found.append(_singles(results, network, operation))
    if batch_operations(results):
        found.append(_batches(results))
    return found + [_growth(results, axis) for axis in dict.fromkeys(point.axis for point in results.points)]


def _machine(results: Results) -> Table:
    return Table("The run", ("", ""), list(results.machine.items()))


def _servers(results: Results) -> Table:
    """The servers that were measured, each with its setting and its start; the others with the reason."""
    networks = list(dict.fromkeys(case.network for case in results.cases()))
    head = ["server", "version", "setting"] + [
        f"{name}, {network}" for network in networks for name in ("cold start, s", "memory (PSS), MiB", "processes")
    ]
    rows = []
    for server, (version, setting) in results.settings.items():
        started = [cell for network in networks for cell in _started(results, server, network)]
        rows.append([server, version, setting, *started])
    note = (
        "Cold start: from the start of the process to the first right answer, files in the page cache, and for ours "
        "what an earlier start on this machine has found out, if there was one. Memory: of all processes, a shared "
        "page counted once, after all cells of a round. Medians over rounds. Encode answers with latents; ours with "
        "their variances as well. The peers write PNGs with Pillow at its default level."
    )
    missed = [f"{one.server} on {one.network}: {one.reason}." for one in results.absences]
    return Table(
        "Servers", head, rows, " ".join([note, *(["Not, or not always, measured:"] if missed else []), *missed])
    )


def _started(results: Results, server: str, network: str) -> list[str]:
    starts = [start for start in results.starts if (start.server, start.network) == (server, network)]
    if not starts:
        return [f"not measured: {results.reason(server, network) or 'not asked'}", NOTHING, NOTHING]
    return [
        f"{median(start.cold_start_s for start in starts):.1f}",
        f"{median(start.pss_mib for start in starts):,.0f}",
        f"{median(start.processes for start in starts):.0f}",
    ]


def _targets(results: Results) -> Table:
    rows = [target.cells() for target in targets(results)]
    note = "A ratio is taken within each round, against that round's best peer; the table has the median over rounds."
    return Table("Targets", ("target", "wanted", "found", ""), rows, note)


def _singles(results: Results, network: str, operation: Operation) -> Table:
    """One picture a request: each server at each number of connections, and our rate over its rate."""
    cases = [case for case in results.cases() if (case.network, case.operation) == (network, operation)]
    servers = results.settings
    rows = [[str(case.connections), one, *_cells(results, case, one)] for case in cases for one in servers]
    head = ("connections", "server", "req/s", "p50 ms", "p99 ms", "CPU µs/req", "errors", "ours / theirs")
    note = (
        "Medians over rounds, errors of all rounds, and the ratio of our requests/s to theirs with that of each round. "
        f"{_idle(results)}"
    )
    return Table(f"{TITLES[network]}: {operation}", head, rows, note)


def _cells(results: Results, case: Case, server: str) -> list[str]:
    visits = results.of(case, server)
    if not visits:
        return [NOTHING] * 6
    ours = ratios(results.rates(case, OURS), results.rates(case, server)) if server in peers(results) else []
    return [
        f"{median(visit.requests_per_s for visit in visits):,.0f}",
        _ms(median(visit.p50_ms for visit in visits)),
        _ms(median(visit.p99_ms for visit in visits)),
        f"{median(visit.cpu_us_per_request for visit in visits):,.0f}",
        str(sum(visit.errors for visit in visits)),
        _each(ours),
    ]


def _idle(results: Results) -> str:
    most = max((visit.idle_cores for visit in results.visits), default=0.0)
    return f"Servers that waited used at most {most:.2f} cores in any cell of this run."


def _batches(results: Results) -> Table:
    rows = [row for operation in batch_operations(results) for row in _batch_rows(results, operation)]
    head = ("operation", "server", "images/s", "p50 ms", "p99 ms", "CPU µs/req", "errors", "ours / theirs")
    note = (
        f"npy in, npy out, {IMAGES_PER_BATCH} images a request over {BATCH_CONNECTIONS} connections. The bare loop is "
        "torch alone, each round in its best variant of eager, channels-last and frozen, in one process and in several."
        " The one with the highest median is named."
    )
    return Table(f"{TITLES[MNIST]}: batches", head, rows, note)


def _batch_rows(results: Results, operation: Operation) -> list[list[str]]:
    """Batches: our service, the naive server, and the bare loop, which has no requests."""
    case = Case(MNIST, operation, BATCH_CONNECTIONS)
    ours, naive = (images_per_s(results.of(case, server)) for server in (OURS, "naive"))
    limit, variant = results.best_bare(operation), _variant(results, operation)
    return [
        [operation, OURS, _rate(ours), *_cells(results, case, OURS)[1:]],
        [operation, "naive", _rate(naive), *_cells(results, case, "naive")[1:]],
        [operation, f"bare loop, {variant}", _rate(limit), *[NOTHING] * 4, _each(ratios(ours, limit))],
    ]


def _variant(results: Results, operation: Operation) -> str:
    """The variant of the bare loop with the highest median."""
    runs = [run for run in results.bare if run.operation is operation]
    names = dict.fromkeys(run.variant for run in runs)
    rates = {name: median(run.images_per_s for run in runs if run.variant == name) for name in names}
    return max(rates, key=lambda name: rates[name], default=NOTHING)


def _growth(results: Results, axis: str) -> Table:
    """A curve as numbers."""
    points = [point for point in results.points if point.axis == axis]
    curves = list(dict.fromkeys(point.curve for point in points))
    head = [axis] + [f"{curve}: {name}" for curve in curves for name in ("images/s", "p99 ms")]
    rows = []
    for x in sorted({point.x for point in points}):
        there = {point.curve: point for point in points if point.x == x}
        cells = [
            cell
            for curve in curves
            for cell in (
                (f"{there[curve].images_per_s:,.0f}", _ms(there[curve].p99_ms)) if curve in there else (NOTHING,) * 2
            )
        ]
        rows.append([str(x), *cells])
    return Table(f"How cost grows: {axis}", head, rows)


def _ms(latency: float) -> str:
    """Milliseconds, or a word where no request was answered in time."""
    return f"{latency:.2f}" if math.isfinite(latency) else NOTHING


def _rate(rounds: dict[int, float]) -> str:
    return f"{median(rounds.values()):,.0f}" if rounds else NOTHING


def _each(values: Sequence[float]) -> str:
    """`1.31 (1.29 1.31 1.40)`."""
    if not values:
        return NOTHING
    return f"{median(values):.2f} ({' '.join(f'{value:.2f}' for value in values)})"
