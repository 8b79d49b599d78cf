"""The targets, and whether a run has reached them. A target that was not measured is marked so, and never passed."""

from __future__ import annotations

from collections.abc import Callable
from statistics import median

from ..environments import OURS
from ..target import Target
from .cases import BATCH_CONNECTIONS, BATCHES, Case, Operation
from .models import MNIST, PHOTO
from .results import Results, best, images_per_s, middle, ratios

HALF = "latentd-bfloat16"
COLD_START_S = 2.0
LETTERS = {MNIST: "A", PHOTO: "B"}


def targets(results: Results) -> list[Target]:
    """A row for every target."""
    singles = [(network, operation) for network in (MNIST, PHOTO) for operation in (Operation.ENCODE, Operation.SAMPLE)]
    return [
        *(_alone(results, operation) for operation in (Operation.ENCODE, Operation.SAMPLE)),
        *(_ahead(results, MNIST, operation, 16, 1.8) for operation in (Operation.ENCODE, Operation.SAMPLE)),
        *(_ahead(results, MNIST, operation, 64, 1.3) for operation in (Operation.ENCODE, Operation.SAMPLE)),
        _ahead(results, PHOTO, Operation.ENCODE, 64, 1.2),
        _ahead(results, PHOTO, Operation.SAMPLE, 64, 1.5),
        _ahead(results, PHOTO, Operation.ENCODE, 64, 1.5, HALF),
        _ahead(results, PHOTO, Operation.SAMPLE, 64, 2.0, HALF),
        *(_beside_bare(results, operation) for operation in BATCHES),
        *(_tail(results, network, operation) for network, operation in singles),
        _neighbour(results),
        *(_memory(results, network) for network in (MNIST, PHOTO)),
        *(_cold_start(results, network) for network in (MNIST, PHOTO)),
    ]


def peers(results: Results) -> list[str]:
    """The servers of others."""
    return [name for name in results.settings if not name.startswith(OURS)]


def _alone(results: Results, operation: Operation) -> Target:
    case = Case(MNIST, operation, 1)
    ours, naive = ({visit.round: visit.p50_ms for visit in results.of(case, name)} for name in (OURS, "naive"))
    name = f"A {operation}, 1 connection: p50 as a multiple of naive's"
    return Target(name, 1.0, middle(ratios(ours, naive)), at_least=False)


def _ahead(
    results: Results, network: str, operation: Operation, connections: int, bound: float, ours: str = OURS
) -> Target:
    case = Case(network, operation, connections)
    rivals = best(results.rates(case, peer) for peer in peers(results))
    chosen = ", bfloat16" if ours == HALF else ""
    name = f"{LETTERS[network]} {operation}, {connections} connections{chosen}: requests/s over the best peer's"
    return Target(name, bound, middle(ratios(results.rates(case, ours), rivals)), at_least=True)


def _beside_bare(results: Results, operation: Operation) -> Target:
    ours = images_per_s(results.of(Case(MNIST, operation, BATCH_CONNECTIONS), OURS))
    name = f"A {operation}, 64 images a request: images/s over the bare loop's best"
    return Target(name, 0.9, middle(ratios(ours, results.best_bare(operation))), at_least=True)


def _tail(results: Results, network: str, operation: Operation) -> Target:
    visits = results.of(Case(network, operation, 64), OURS)
    name = f"{LETTERS[network]} {operation}, 64 connections: p99 / p50"
    return Target(name, 2.5, middle(visit.p99_ms / visit.p50_ms for visit in visits if visit.p50_ms), at_least=False)


def _neighbour(results: Results) -> Target:
    slowed = middle(one.loaded_p50_ms / one.idle_p50_ms for one in results.neighbours if one.idle_p50_ms)
    return Target("A encode beside a client that saturates with batches: p50 / idle p50", 2.0, slowed, at_least=False)


def _memory(results: Results, network: str) -> Target:
    used = _medians(results, network, lambda start: start.pss_mib)
    rivals = [used[peer] for peer in results.batching if peer in used]
    value = used[OURS] / min(rivals) if OURS in used and rivals else None
    return Target(f"{LETTERS[network]}: memory over that of the smallest batching peer", 1.0, value, at_least=False)


def _cold_start(results: Results, network: str) -> Target:
    taken = _medians(results, network, lambda start: start.cold_start_s)
    return Target(
        f"{LETTERS[network]}: seconds to the first right answer", COLD_START_S, taken.get(OURS), at_least=False
    )


def _medians(results: Results, network: str, number: Callable[..., float]) -> dict[str, float]:
    """The median over rounds, for each server."""
    starts = [start for start in results.starts if start.network == network]
    names = dict.fromkeys(start.server for start in starts)
    return {name: median(number(start) for start in starts if start.server == name) for name in names}
