"""The targets beside the measurements."""

import math

import pytest

from benchmarks.serving.results import Neighbour, Results
from benchmarks.serving.targets import targets


@pytest.mark.parametrize(
    ("name", "value", "verdict"),
    [
        ("A encode, 16 connections: requests/s over the best peer's", 2.5, "reached"),
        ("A batch-encode, 64 images a request: images/s over the bare loop's best", 0.8, "not reached"),
        ("A encode beside a client that saturates with batches: p50 / idle p50", 1.5, "reached"),
        ("A: memory over that of the smallest batching peer", 0.5, "reached"),
        ("A: seconds to the first right answer", 1.5, "reached"),
        ("B encode, 64 connections: requests/s over the best peer's", None, "not measured"),
    ],
)
def test_targets_of_a_run(results: Results, name: str, value: float | None, verdict: str) -> None:
    """Each target has its value and a verdict."""
    (target,) = (target for target in targets(results) if target.name == name)

    assert (target.value, target.verdict) == (value, verdict)


def test_no_target_is_reached_by_measuring_nothing() -> None:
    """In an empty run no target is measured."""
    assert {target.verdict for target in targets(Results())} == {"not measured"}


def test_neighbour_who_gets_no_answer_is_no_success(results: Results) -> None:
    """An infinite slowdown misses its target."""
    results.neighbours = [Neighbour(0, 1.0, math.inf)]
    (target,) = (target for target in targets(results) if "beside a client" in target.name)

    assert target.verdict == "not reached"
