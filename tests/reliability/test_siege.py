"""Good clients beside hundreds that hold their connections, and beside all attacks; `make siege` measures both."""

from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from . import all_at_once
from .all_at_once import ATTACKS, GOOD, SHORT, Stormed, storm
from .good_client import Asked
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


QUICK = [Asked(float(second), 200, 2.0) for second in range(100)]
STORMED = Stormed(alone=dict.fromkeys(GOOD, QUICK), meanwhile=dict.fromkeys(GOOD, QUICK), killed=0)


def test_good_clients_are_answered_beside_all_attacks(tmp_path: Path) -> None:
    """No good client is lost, no attack finds a bug, and no process is killed for want of memory."""
    found = storm(tmp_path, SHORT)

    assert all_at_once.problems(found, all_at_once.BUSY) == []
    assert found.attackers.keys() == ATTACKS.keys()
    assert found.memory_mib < all_at_once.MEMORY / 2**20


def _meanwhile(name: str, status: int, took_ms: float) -> Stormed:
    """The siege in which five of a good client's requests were answered in another way."""
    return replace(STORMED, meanwhile=STORMED.meanwhile | {name: [*QUICK, *[Asked(0.0, status, took_ms)] * 5]})


@pytest.mark.parametrize(
    ("found", "said"),
    [
        (_meanwhile("probe", 200, 150.0), "probe: p99 150.0 ms, allowed 100.0"),
        (_meanwhile("one sample", 200, 50.0), "one sample: p99 50.0 ms, allowed 10.0"),
        (_meanwhile("one sample", 429, 2.0), "one sample: 5 answers 429"),
        (_meanwhile("256 small pictures", 0, 2.0), "256 small pictures: 5 answers 0"),
        (_meanwhile("256 small pictures", 429, 1500.0), "256 small pictures: answered after 1500 ms"),
        (replace(STORMED, meanwhile=STORMED.meanwhile | {"probe": []}), "probe: no answer"),
        (replace(STORMED, attackers={"forms": Counter({"500": 2})}), "forms: 2 answers 500"),
        (replace(STORMED, killed=2), "2 processes were killed for want of memory"),
        (replace(STORMED, harm=["images still wait"]), "images still wait"),
    ],
)
def test_fault_beside_all_attacks_is_named(found: Stormed, said: str) -> None:
    """Each fault is named when it is the only fault; a large request may be refused."""
    assert all_at_once.problems(_meanwhile("256 small pictures", 429, 2.0), all_at_once.STRICT) == []
    assert all_at_once.problems(found, all_at_once.STRICT) == [said]
