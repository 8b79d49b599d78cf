"""A short soak, and the faults that a bad one would show; `make soak` is the long one."""

from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from .soak import MIN_MEASUREMENTS, QUANTITIES, Measurement, Soaked, problems, soak

SECONDS = 8
CLEARLY_LEFT = 150  # files, or tasks: a dozen callers need far fewer, and one left by each request would be far more


def test_mixed_traffic_leaves_nothing_behind(tmp_path: Path) -> None:
    """Every good request is answered, and hundreds of them leave no files or tasks; `make soak` sees slow growth."""
    soaked = soak(tmp_path, SECONDS)

    assert problems(soaked) == []
    assert soaked.statuses["200"] > 100
    assert soaked.reloads >= SECONDS / 4
    assert len(soaked.measurements) >= SECONDS / 4
    assert soaked.statuses.total() > 2 * CLEARLY_LEFT
    assert max(max(measurement.files, measurement.tasks) for measurement in soaked.measurements) < CLEARLY_LEFT


def measurements(growing: str | None = None) -> list[Measurement]:
    """Six minutes of a service in which nothing changes, or in which one quantity grows."""
    steady = Measurement(second=0, memory_mib=100, files=9, threads=9, tasks=9, series=9)
    return [replace(steady, **{growing: 9 + second} if growing else {}) for second in range(360)]


@pytest.mark.parametrize(
    ("soaked", "said"),
    [
        (Soaked(measurements=measurements(), lost=1), "1 good requests without a right answer"),
        (Soaked(measurements=measurements(), statuses=Counter({"500": 2})), "2 answers 500"),
        (Soaked(measurements=measurements(), statuses=Counter({"traceback": 1})), "1 answers traceback"),
        (Soaked(measurements=measurements(), harm=["it is not ready"]), "it is not ready"),
        *(
            (Soaked(measurements=measurements(quantity.name)), f"{quantity.title}: grew from")
            for quantity in QUANTITIES
        ),
    ],
)
def test_fault_is_named(soaked: Soaked, said: str) -> None:
    """Each fault is named when it is the only fault."""
    assert [problem[: len(said)] for problem in problems(soaked)] == [said]
    assert problems(Soaked(measurements=measurements())) == []


def test_growth_is_judged_only_after_the_warm_up() -> None:
    """Too few measurements show nothing; enough of them do."""
    growing = measurements("threads")

    assert problems(Soaked(measurements=growing[: MIN_MEASUREMENTS - 1])) == []
    assert problems(Soaked(measurements=growing[:MIN_MEASUREMENTS])) != []
