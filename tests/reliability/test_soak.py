"""A short soak, and what would be said of a bad one; `make soak` is the long one."""

from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from .soak import QUANTITIES, WARM_LOOKS, Look, Soaked, problems, soak

SECONDS = 12
CLEARLY_LEFT = 150  # files, or tasks: a dozen callers need far fewer, and one left by each request would be far more


def test_mixed_traffic_leaves_nothing_behind(tmp_path: Path) -> None:
    """Every good request is answered, and no file or task is left by each of hundreds; `make soak` sees slow growth."""
    soaked = soak(tmp_path, SECONDS)

    assert problems(soaked) == []
    assert soaked.statuses["200"] > 100
    assert soaked.reloads >= SECONDS / 4
    assert len(soaked.looks) >= SECONDS / 4
    assert soaked.statuses.total() > 2 * CLEARLY_LEFT
    assert max(max(look.files, look.tasks) for look in soaked.looks) < CLEARLY_LEFT


def looks(growing: str | None = None) -> list[Look]:
    """Six minutes of a service that is the same all the time, or in which one quantity grows."""
    steady = Look(second=0, memory_mib=100, files=9, threads=9, tasks=9, series=9)
    return [replace(steady, **{growing: 9 + second} if growing else {}) for second in range(360)]


@pytest.mark.parametrize(
    ("soaked", "said"),
    [
        (Soaked(looks=looks(), lost=1), "1 good requests without a right answer"),
        (Soaked(looks=looks(), statuses=Counter({"500": 2})), "2 answers 500"),
        (Soaked(looks=looks(), statuses=Counter({"traceback": 1})), "1 answers traceback"),
        (Soaked(looks=looks(), left=["it is not ready"]), "it is not ready"),
        *((Soaked(looks=looks(quantity.name)), f"{quantity.title}: grew from") for quantity in QUANTITIES),
    ],
)
def test_what_a_service_must_not_do_is_said(soaked: Soaked, said: str) -> None:
    """Each by itself."""
    assert [problem[: len(said)] for problem in problems(soaked)] == [said]
    assert problems(Soaked(looks=looks())) == []


def test_warm_up_is_no_growth() -> None:
    """Of a look or two nothing can be said; of enough it can."""
    growing = looks("threads")

    assert problems(Soaked(looks=growing[: WARM_LOOKS - 1])) == []
    assert problems(Soaked(looks=growing[:WARM_LOOKS])) != []
