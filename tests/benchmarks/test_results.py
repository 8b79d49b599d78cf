"""Ratios are taken within rounds."""

import math

from benchmarks.serving.cases import Operation
from benchmarks.serving.results import Neighbour, Results, best, middle, ratios

from .conftest import ENCODE


def test_ratio_pairs_values_of_the_same_round(results: Results) -> None:
    """A machine that was faster in the second round was faster for both servers."""
    assert ratios(results.rates(ENCODE, "latentd"), results.rates(ENCODE, "mosec")) == [2.0, 3.0]


def test_rounds_that_one_missed_have_no_ratio() -> None:
    """A round without an answer has no ratio either."""
    assert ratios({0: 4.0, 1: 6.0, 2: 8.0}, {1: 2.0, 2: 0.0}) == [3.0]


def test_best_is_of_each_round() -> None:
    """Each round is compared with the best peer of that round."""
    assert best([{0: 1.0, 1: 5.0}, {0: 2.0, 1: 4.0}]) == {0: 2.0, 1: 5.0}


def test_bare_loop_counts_with_its_best_variant(results: Results) -> None:
    """The best variant of the bare loop is chosen; here it is the frozen one."""
    assert results.best_bare(Operation.BATCH_ENCODE) == {0: 8000.0, 1: 8000.0}


def test_median_of_nothing_is_none() -> None:
    """The median of no values is None, because zero would look like a measurement."""
    assert middle([]) is None
    assert middle([3.0, 1.0, 2.0]) == 2.0


def test_results_survive_their_file(results: Results) -> None:
    """The JSON beside the page can be read again, with infinite latencies too."""
    results.neighbours = [Neighbour(0, 1.0, math.inf)]

    assert Results.model_validate_json(results.model_dump_json()) == results
