"""A good client beside hundreds that hold their connections; `make siege` records the measurements."""

from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from .siege import BUSY, DEADLINE_S, HOLDS, STRICT, Besieged, problems, siege

WITHSTOOD = Besieged(
    good=Counter({200: 200}),
    before_ms=[3.0] * 100,
    meanwhile_ms=[4.0] * 100,
    held_s={"silent": [DEADLINE_S] * 500},
    flood=Counter({200: 200, 429: 100}),
    refused_ms=[5.0] * 100,
    retry_after={"1"},
)


def test_good_client_is_answered_while_others_hold_on_or_flood(tmp_path: Path) -> None:
    """Clients that hold connections are closed at the deadline; clients that flood are refused at once."""
    found = siege(tmp_path)

    assert problems(found, BUSY) == []
    assert {name: len(held) for name, held in found.held_s.items()} == {name: HOLDS[name].clients for name in HOLDS}
    assert len(found.meanwhile_ms) > 100
    assert found.flood[429] > 0


@pytest.mark.parametrize(
    ("found", "said"),
    [
        (replace(WITHSTOOD, good=Counter({200: 199, 429: 1})), "a good client got 1 answers 429"),
        (replace(WITHSTOOD, held_s={"silent": [0.0, DEADLINE_S]}), "silent: closed after 0.0 s"),
        (replace(WITHSTOOD, held_s={"silent": [DEADLINE_S, 60.0]}), "silent: held out 60.0 s"),
        (replace(WITHSTOOD, meanwhile_ms=[200.0] * 100), "p99 rose from 3 to 200 ms"),
        (replace(WITHSTOOD, refused_ms=[5.0] * 95 + [80.0] * 5), "a refusal took 80 ms"),
        (replace(WITHSTOOD, flood=Counter({429: 1, 503: 2})), "the flood got 2 answers 503"),
        (replace(WITHSTOOD, retry_after={"1", "soon"}), "Retry-After: soon"),
        (replace(WITHSTOOD, tracebacks=2), "2 bodies with a traceback"),
        (replace(WITHSTOOD, harm=["images still wait"]), "images still wait"),
    ],
)
def test_fault_is_named(found: Besieged, said: str) -> None:
    """Each fault is named when it is the only fault."""
    assert problems(WITHSTOOD, STRICT) == []
    assert problems(found, STRICT) == [said]
