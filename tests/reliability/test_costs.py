"""The cost of a few costly requests; `make siege` measures all of them."""

from pathlib import Path

import pytest

from .costly import requests
from .costs import BUSY, LATENT_VALUES, STRICT, Cost, Costs, measure, problems

FEW = ("GET /v1/sample?n=256&format=json", "PNG: 4194304×1", "PNG: empty texts, each with its own key", "JPEG: padding",
       "JSON: zeros", "multipart: beginnings of the boundary")  # fmt: skip

CHEAP = Cost("a picture", 2.0, 200, took_s=0.1, held_ms=2.0, worked_s=0.1, memory_mib=8.0)


def test_costly_requests_cost_others_little(tmp_path: Path) -> None:
    """No client waits for them, and their memory is bounded."""
    found = measure(tmp_path, [each for each in requests(LATENT_VALUES) if each.name in FEW])

    assert [cost.name for cost in found.all] == [each.name for each in requests(LATENT_VALUES) if each.name in FEW]
    assert len(found.all) == len(FEW)
    assert problems(found, BUSY) == []


@pytest.mark.parametrize(
    ("cost", "said"),
    [
        (CHEAP._replace(status=500), "a picture: answered 500"),
        (CHEAP._replace(status=0), "a picture: answered 0"),
        (CHEAP._replace(held_ms=780.0), "a picture: others waited 780 ms"),
        (CHEAP._replace(worked_s=20.0), "a picture: 20.0 s of work"),
        (CHEAP._replace(body_mib=0.5, memory_mib=900.0), "a picture: 900 MiB"),
        (CHEAP._replace(memory_mib=60.0), "a picture: 30.0 bytes for each byte"),
    ],
)
def test_cost_that_is_too_high_is_named(cost: Cost, said: str) -> None:
    """Each is named when it is the only fault."""
    assert problems(Costs([CHEAP], [1.0], []), STRICT) == []
    assert problems(Costs([cost], [1.0], []), STRICT) == [said]
    assert problems(Costs([CHEAP], [1.0], ["it is not ready"]), STRICT) == ["it is not ready"]
