"""What is written down: the same tables for people in a terminal and for `docs/benchmarks.md`."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from rich.console import Console
from rich.table import Table as RichTable

from .cases import BATCH_CONNECTIONS, IMAGES_PER_BATCH, LOADS, Case, Operation
from .environments import OURS
from .models import MNIST, PHOTO
from .results import Results, Visit, batch_operations, images_per_s, ratios
from .targets import peers, targets

BEGIN, END = "<!-- serving: written by make bench -->", "<!-- serving: end -->"
TITLES = {MNIST: "A, the shipped `mnist` (1×28×28)", PHOTO: "B, `photo` (3×128×128, random weights)"}
NOTHING = "–"
_NUMBER = re.compile(r"[\d,.]+( \(.*\))?$|not measured")
PAGE = """\
# Benchmarks

What our service does beside what a user would pick instead, measured by [`benchmarks/serving`](../benchmarks/serving).

{section}
"""


@dataclass(frozen=True)
class Table:
    """A title, a line for each row, and what must be known to read them."""

    title: str
    head: Sequence[str]
    rows: Sequence[Sequence[str]]
    note: str = ""

    def markdown(self) -> str:
        """For a page."""
        ruler = ["--:" if is_right else "---" for is_right in self._right()]
        lines = [_line(row) for row in (self.head, ruler, *self.rows)]
        return "\n".join([f"### {self.title}", "", *([self.note, ""] if self.note else []), *lines])

    def rich(self) -> RichTable:
        """For a terminal."""
        table = RichTable(title=self.title.replace("`", ""), caption=self.note or None, title_justify="left")
        for name, is_right in zip(self.head, self._right(), strict=True):
            table.add_column(name, justify="right" if is_right else "left", overflow="fold")
        for row in self.rows:
            table.add_row(*(cell.replace("**", "").replace("`", "") for cell in row))
        return table

    def _right(self) -> list[bool]:
        """Which columns stand on the right: those of numbers."""
        told = [[row[column] for row in self.rows if row[column] != NOTHING] for column in range(len(self.head))]
        return [bool(cells) and all(_NUMBER.match(cell) for cell in cells) for cells in told]


def show(results: Results, console: Console) -> None:
    """The tables, in a terminal."""
    for table in tables(results):
        console.print(table.rich())


def write(results: Results, page: Path, figures: Sequence[Path] = ()) -> None:
    """The tables into their section of a page; what stands around it is left as it is."""
    section = f"{BEGIN}\n\n{_section(results, figures)}\n\n{END}"
    page.parent.mkdir(parents=True, exist_ok=True)
    text = page.read_text(encoding="utf-8") if page.is_file() else PAGE.format(section=f"{BEGIN}{END}")
    if BEGIN not in text:
        text += f"\n{BEGIN}{END}\n"
    written = re.sub(f"{re.escape(BEGIN)}.*{re.escape(END)}", lambda _: section, text, flags=re.DOTALL)
    page.write_text(written, encoding="utf-8")


def _section(results: Results, figures: Sequence[Path]) -> str:
    pictures = "\n\n".join(f"![{path.stem.replace('-', ' ')}](figures/{path.name})" for path in figures)
    return "\n\n".join(filter(None, ["## Serving", *(table.markdown() for table in tables(results)), pictures]))


def tables(results: Results) -> list[Table]:
    """Every table that there are measurements for."""
    found = [_machine(results), _servers(results), _targets(results)]
    for network, operation in dict.fromkeys((case.network, case.operation) for case in results.cases()):
        if operation.images == 1:
            found += [_singles(results, network, operation), _ratios(results, network, operation)]
    if batch_operations(results):
        found.append(_batches(results))
    return found + [_growth(results, axis) for axis in dict.fromkeys(point.axis for point in results.points)]


def _machine(results: Results) -> Table:
    return Table("The run", ("", ""), list(results.machine.items()))


def _servers(results: Results) -> Table:
    """Who was measured, in which setting, and how each starts; who was not, and why."""
    networks = list(dict.fromkeys(case.network for case in results.cases()))
    head = ["server", "version", "setting"] + [
        f"{name}, {network}" for network in networks for name in ("cold start, s", "memory (PSS), MiB", "processes")
    ]
    rows = []
    for server, (version, setting) in results.settings.items():
        started = [cell for network in networks for cell in _started(results, server, network)]
        rows.append([server, version, setting, *started])
    note = (
        "Cold start: from the start of the process to the first right answer, files in the page cache. Memory: of all "
        "processes, a shared page counted once, after all cells of a round. Medians over rounds. Encode answers with "
        "latents; ours with their variances as well. The peers write PNGs with Pillow at its default level."
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
    rows = [
        [
            target.name,
            f"{'≥' if target.at_least else '≤'} {target.bound:g}",
            NOTHING if target.value is None else f"{target.value:.2f}",
            f"**{target.verdict}**" if target.value is not None else target.verdict,
        ]
        for target in targets(results)
    ]
    note = "A ratio is taken within each round, against that round's best peer; the table has the median over rounds."
    return Table("Targets", ("target", "wanted", "found", ""), rows, note)


def _singles(results: Results, network: str, operation: Operation) -> Table:
    """One picture a request."""
    loads = [load for load in LOADS if Case(network, operation, load) in results.cases()]
    numbers = ("req/s", "p50 ms", "p99 ms", "CPU µs/req")
    head = ["server", *(f"c{load}: {name}" for load in loads for name in numbers), "errors"]
    rows = []
    for server in results.settings:
        cells = [cell for load in loads for cell in _load(results.of(Case(network, operation, load), server))]
        rows.append([server, *cells, str(_errors(results, server, network, operation))])
    note = f"c16: over 16 connections. Medians over rounds; errors are of all rounds. {_idle(results)}"
    return Table(f"{TITLES[network]}: {operation}", head, rows, note)


def _load(visits: list[Visit]) -> list[str]:
    if not visits:
        return [NOTHING] * 4
    return [
        f"{median(visit.requests_per_s for visit in visits):,.0f}",
        _ms(median(visit.p50_ms for visit in visits)),
        _ms(median(visit.p99_ms for visit in visits)),
        f"{median(visit.cpu_us_per_request for visit in visits):,.0f}",
    ]


def _errors(results: Results, server: str, network: str, operation: Operation) -> int | str:
    asked = (server, network, operation)
    visits = [one for one in results.visits if (one.server, one.case.network, one.case.operation) == asked]
    return sum(visit.errors for visit in visits) if visits else NOTHING


def _idle(results: Results) -> str:
    most = max((visit.idle_cores for visit in results.visits), default=0.0)
    return f"Servers that waited used at most {most:.2f} cores in any cell of this run."


def _ratios(results: Results, network: str, operation: Operation) -> Table:
    """Our requests/s over each peer's."""
    loads = [load for load in LOADS if Case(network, operation, load) in results.cases()]
    rows = []
    for server in peers(results):
        cases = [Case(network, operation, load) for load in loads]
        rows.append([server, *(_each(ratios(results.rates(c, OURS), results.rates(c, server))) for c in cases)])
    note = "Median over rounds, and the ratio of each round."
    title = f"{TITLES[network]}: {operation}, our requests/s over theirs"
    return Table(title, ["server", *(f"c{load}" for load in loads)], rows, note)


def _batches(results: Results) -> Table:
    rows = []
    for operation in batch_operations(results):
        case = Case(MNIST, operation, BATCH_CONNECTIONS)
        ours, naive = (images_per_s(results.of(case, server)) for server in (OURS, "naive"))
        limit = results.best_bare(operation)
        rates = [_rate(ours), _rate(naive), _rate(limit)]
        rows.append(
            [operation, *rates, _each(ratios(ours, naive)), _each(ratios(ours, limit)), _variant(results, operation)]
        )
    head = ("operation", "ours, images/s", "naive", "bare loop", "ours / naive", "ours / bare", "best bare loop")
    note = (
        f"npy in, npy out, {IMAGES_PER_BATCH} images a request over {BATCH_CONNECTIONS} connections. The bare loop is "
        "torch alone, each round in its best variant of eager, channels-last and frozen, in one process and in several."
    )
    return Table(f"{TITLES[MNIST]}: batches", head, rows, note)


def _variant(results: Results, operation: Operation) -> str:
    """The variant of the bare loop that was the best most often."""
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
    """Milliseconds; where nothing was answered in time, there is no number."""
    return f"{latency:.2f}" if math.isfinite(latency) else NOTHING


def _rate(rounds: dict[int, float]) -> str:
    return f"{median(rounds.values()):,.0f}" if rounds else NOTHING


def _each(values: Sequence[float]) -> str:
    """`1.31 (1.29 1.31 1.40)`."""
    if not values:
        return NOTHING
    return f"{median(values):.2f} ({' '.join(f'{value:.2f}' for value in values)})"


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cell.replace('|', '/') for cell in cells)} |"
