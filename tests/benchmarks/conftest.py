"""Invented measurements with round numbers, so that a ratio is easy to see."""

import pytest

from benchmarks.serving.cases import Case, Operation
from benchmarks.serving.results import Absence, BareRun, Neighbour, Point, Results, Start, Visit

ENCODE = Case("mnist", Operation.ENCODE, 16)
BATCH = Case("mnist", Operation.BATCH_ENCODE, 4)


def visit(case: Case, server: str, number: int, rate: float) -> Visit:
    """A visit with this rate and without failures."""
    return Visit(case, server, number, rate, 2.0, 4.0, 0, 100.0, 0.01)


@pytest.fixture
def results() -> Results:
    """Two rounds: ours has 2 and 3 times the rate of mosec, which is ahead of naive. triton is missing."""
    rates = {"latentd": (2000, 3600), "naive": (500, 600), "mosec": (1000, 1200)}
    return Results(
        machine={"processor": "none"},
        settings={name: (f"{name} 1", "defaults") for name in (*rates, "triton")},
        batching=("mosec", "triton"),
        visits=[visit(ENCODE, name, number, rate) for name, pair in rates.items() for number, rate in enumerate(pair)]
        + [visit(BATCH, "latentd", number, 100) for number in range(2)],
        starts=[Start("mnist", name, 0, 1.5, 300 if name == "latentd" else 600, 2) for name in rates],
        bare=[
            BareRun(Operation.BATCH_ENCODE, number, variant, rate)
            for number in range(2)
            for variant, rate in (("eager", 6400.0), ("frozen", 8000.0))
        ],
        neighbours=[Neighbour(0, 1.0, 1.5)],
        absences=[Absence("triton", "mnist", "no such package")],
        points=[Point("connections", x, "latentd encode", 1000.0 * x, float(x), 0) for x in (1, 16)],
    )
