"""The measurements as they were made: no number here is an average.

The machine drifts, so that a ratio is taken within a round, and the median of the ratios over the rounds.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from statistics import median

from pydantic import BaseModel, ConfigDict
from pydantic.dataclasses import dataclass

from .cases import BATCHES, Case, Operation

WITH_INFINITY = ConfigDict(ser_json_inf_nan="strings")  # a latency is infinite where no request was answered in time


@dataclass(frozen=True, config=WITH_INFINITY)
class Visit:
    """A server under load for one cell: right answers/s, milliseconds, failures, CPU of all its processes."""

    case: Case
    server: str
    round: int
    requests_per_s: float
    p50_ms: float
    p99_ms: float
    errors: int
    cpu_us_per_request: float
    idle_cores: float  # used by all other servers meanwhile; 1.0 is a whole core


@dataclass(frozen=True)
class Start:
    """A server from its start to its end: seconds to the first right answer, memory after all cells."""

    network: str
    server: str
    round: int
    cold_start_s: float
    pss_mib: float
    processes: int


@dataclass(frozen=True)
class BareRun:
    """The bare torch loop in one variant."""

    operation: Operation
    round: int
    variant: str
    images_per_s: float


@dataclass(frozen=True, config=WITH_INFINITY)
class Neighbour:
    """Single encodes on one connection, alone and beside a client that saturates our service with batches."""

    round: int
    idle_p50_ms: float
    loaded_p50_ms: float


@dataclass(frozen=True)
class Absence:
    """A server that could not be installed or started, or answered wrongly, and why."""

    server: str
    network: str
    reason: str


@dataclass(frozen=True, config=WITH_INFINITY)
class Point:
    """One point of a curve: `x` connections, images or pixels; images/s and p99 of single requests or batches."""

    axis: str
    x: int
    curve: str
    images_per_s: float
    p99_ms: float
    errors: int


class Results(BaseModel):
    """All measurements of a run, and the machine (words for a table)."""

    machine: dict[str, str] = {}
    settings: dict[str, tuple[str, str]] = {}  # server → version, setting
    batching: tuple[str, ...] = ()  # the peers whose requests share a forward pass
    visits: list[Visit] = []
    starts: list[Start] = []
    bare: list[BareRun] = []
    neighbours: list[Neighbour] = []
    absences: list[Absence] = []
    points: list[Point] = []

    def cases(self) -> list[Case]:
        """The cells that were measured, in order of their first visit."""
        return list(dict.fromkeys(visit.case for visit in self.visits))

    def of(self, case: Case, server: str) -> list[Visit]:
        """The visits of a server in a cell, one for each round."""
        return [visit for visit in self.visits if (visit.case, visit.server) == (case, server)]

    def reason(self, server: str, network: str) -> str | None:
        """The reason for which a server was not measured."""
        return next((one.reason for one in self.absences if (one.server, one.network) == (server, network)), None)

    def rates(self, case: Case, server: str) -> dict[int, float]:
        """Requests/s of each round."""
        return {visit.round: visit.requests_per_s for visit in self.of(case, server)}

    def best_bare(self, operation: Operation) -> dict[int, float]:
        """Images/s of the best variant in each round: chance can only help the bare loop, never us."""
        return best(
            {run.round: run.images_per_s for run in self.bare if (run.operation, run.variant) == (operation, variant)}
            for variant in {run.variant for run in self.bare}
        )


def middle(values: Iterable[float]) -> float | None:
    """The median, or None if there are no values."""
    listed = list(values)
    return median(listed) if listed else None


def best(rounds: Iterable[dict[int, float]]) -> dict[int, float]:
    """The largest value of each round."""
    listed = list(rounds)
    return {
        number: max(row.get(number, 0.0) for row in listed) for number in sorted({n for row in listed for n in row})
    }


def ratios(ours: dict[int, float], theirs: dict[int, float]) -> list[float]:
    """Our rate over theirs, in each round in which both were measured."""
    return [ours[number] / theirs[number] for number in sorted(ours.keys() & theirs.keys()) if theirs[number]]


def images_per_s(visits: Sequence[Visit]) -> dict[int, float]:
    """Images/s of each round."""
    return {visit.round: visit.requests_per_s * visit.case.operation.images for visit in visits}


def batch_operations(results: Results) -> list[Operation]:
    """The batch operations that were measured."""
    return [operation for operation in BATCHES if any(case.operation is operation for case in results.cases())]
