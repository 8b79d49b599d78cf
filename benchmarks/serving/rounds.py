"""Rounds: the order of measurements, so that every server meets the same drift of the machine.

A round starts each server of a network again, one after the other. Then for each cell it visits each server in turn:
one second that is not counted, then the measured seconds. The other servers are idle meanwhile, and their use of the
CPU is measured too. The order turns by one with each round, so that no server is always first.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from ..environments import CannotInstall, reason
from . import bare, models
from .cases import BATCH_CONNECTIONS, BATCHES, Case, Operation
from .checks import Wrong
from .load import NoLoad
from .pictures import material
from .process import DidNotStart
from .results import Absence, BareRun, Neighbour, Results, Start, Visit
from .running import Running, Shelf, running
from .servers import LATENTD, Server

WARM_UP_S = 1.0
# So that a server notices that the clients of the load before have left. Workers of latentd share new connections by
# their numbers: four clients that came while others left all went to one worker, and one core was idle.
SETTLE_S = 0.5
Say = Callable[[str], None]


@dataclass(frozen=True)
class Plan:
    """The plan of a run: cells, servers, seconds of each visit, rounds."""

    cases: tuple[Case, ...]
    servers: tuple[Server, ...]
    seconds: float
    rounds: int

    def of(self, network: str) -> list[Case]:
        """The cells of a network."""
        return [case for case in self.cases if case.network == network]


def run(plan: Plan, shelves: Sequence[Shelf], scratch: Path, results: Results, say: Say) -> None:
    """Measure all rounds of all networks into `results`."""
    for number in range(plan.rounds):
        for shelf in shelves:
            say(f"round {number + 1} of {plan.rounds}, {shelf.network}")
            _round(plan, shelf, scratch / f"{shelf.network}-{number}", number, results, say)


def _round(plan: Plan, shelf: Shelf, scratch: Path, number: int, results: Results, say: Say) -> None:
    present = [server for server in plan.servers if shelf.network in server.networks]
    present = [server for server in present if results.reason(server.name, shelf.network) is None]
    with ExitStack() as stack:
        started = [start(stack, server, shelf, scratch, results, say) for server in turned(present, number)]
        alive = [one for one in started if one is not None]
        for case in plan.of(shelf.network):
            _visit_all(plan, case, alive, number, results, say)
        if any(case.operation in BATCHES for case in plan.of(shelf.network)):
            results.neighbours += _neighbours(alive, shelf.network, number, plan.seconds, results, say)
        for operation in (case.operation for case in plan.of(shelf.network) if case.operation in BATCHES):
            results.bare += bare_runs(shelf, operation, number, max(1.0, plan.seconds / 3))
        results.starts += [_look_at(one, shelf.network, number) for one in alive]


def start(stack: ExitStack, server: Server, shelf: Shelf, scratch: Path, results: Results, say: Say) -> Running | None:
    """Start a server that runs until the stack is left. If it cannot start, note the reason and return None."""
    try:
        one = stack.enter_context(running(server, shelf, scratch / server.name))
    except (CannotInstall, DidNotStart, Wrong) as error:
        note_absence(server, shelf.network, error, results, say)
        return None
    say(f"  {server.name} answers after {one.cold_start_s:.1f} s")
    return one


def turned(servers: Sequence[Server], number: int) -> list[Server]:
    """The servers in another order each round."""
    first = number % max(1, len(servers))
    return [*servers[first:], *servers[:first]]


def _visit_all(plan: Plan, case: Case, alive: list[Running], number: int, results: Results, say: Say) -> None:
    for one in alive:
        if case.operation not in one.server.routes:
            continue
        try:
            visit = _visit(case, one, alive, number, plan.seconds)
        except NoLoad as error:
            note_absence(one.server, case.network, error, results, say)
            continue
        results.visits.append(visit)
        failed = f", {visit.errors} errors" if visit.errors else ""
        say(f"  {case.name} {one.server.name}: {visit.requests_per_s:,.0f}/s, p99 {visit.p99_ms:.1f} ms{failed}")


def note_absence(server: Server, network: str, error: Exception, results: Results, say: Say) -> None:
    """Print and note the reason for which a server is not measured; later rounds do not start it."""
    say(f"  {server.name} is not measured: {error}")
    results.absences.append(Absence(server.name, network, reason(str(error))))


def _visit(case: Case, one: Running, alive: list[Running], number: int, seconds: float) -> Visit:
    time.sleep(SETTLE_S)
    one.load(case.operation, case.connections, WARM_UP_S)
    time.sleep(SETTLE_S)
    others = [other.process for other in alive if other is not one]
    own_s, others_s, began = one.process.cpu_s(), sum(other.cpu_s() for other in others), time.perf_counter()
    seen = one.load(case.operation, case.connections, seconds)
    took = time.perf_counter() - began
    used_s, idle_s = one.process.cpu_s() - own_s, sum(other.cpu_s() for other in others) - others_s
    answers = seen.requests_per_s * seconds
    return Visit(
        case=case,
        server=one.server.name,
        round=number,
        requests_per_s=seen.requests_per_s,
        p50_ms=seen.p50_ms,
        p99_ms=seen.p99_ms,
        errors=seen.errors,
        cpu_us_per_request=used_s / answers * 1e6 if answers else 0.0,
        idle_cores=idle_s / took,
    )


def _neighbours(
    alive: list[Running], network: str, number: int, seconds: float, results: Results, say: Say
) -> list[Neighbour]:
    """Our service, if it runs."""
    for one in alive:
        if one.server is LATENTD:
            try:
                return [_neighbour(one, number, seconds)]
            except NoLoad as error:
                note_absence(one.server, network, error, results, say)
    return []


def _neighbour(one: Running, number: int, seconds: float) -> Neighbour:
    """Measure single encodes alone, then beside batches on enough connections to keep both processes busy."""
    idle = one.load(Operation.ENCODE, 1, seconds)
    one.load(Operation.BATCH_ENCODE, BATCH_CONNECTIONS, WARM_UP_S)
    with ThreadPoolExecutor(1) as pool:
        batches = pool.submit(one.load, Operation.BATCH_ENCODE, BATCH_CONNECTIONS, seconds + 2 * WARM_UP_S)
        time.sleep(WARM_UP_S)
        loaded = one.load(Operation.ENCODE, 1, seconds)
        batches.result()
    return Neighbour(number, idle.p50_ms, loaded.p50_ms)


def _look_at(one: Running, network: str, number: int) -> Start:
    return Start(
        network=network,
        server=one.server.name,
        round=number,
        cold_start_s=one.cold_start_s,
        pss_mib=one.process.pss_mib(),
        processes=len(one.process.members()),
    )


def bare_runs(shelf: Shelf, operation: Operation, number: int, seconds: float) -> list[BareRun]:
    """Measure the bare loop in every variant, in one process and in several. The servers are idle meanwhile."""
    found = []
    for size in bare.CREWS:
        with bare.crew(size, shelf.store, shelf.network) as processes:
            for variant in bare.VARIANTS:
                rate = bare.ask(processes, operation, variant, seconds)
                found.append(BareRun(operation, number, f"{variant}, {size}", rate))
    return found


def shelve(root: Path, network: str, data: Path | None) -> Shelf:
    """A store with one network, its inputs and the right answers."""
    return Shelf(network, root, material(models.publish(root, network), data))
