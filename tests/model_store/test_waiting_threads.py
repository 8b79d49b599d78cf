"""Threads of torch that wait for work sleep soon, unless a user has chosen otherwise."""

from __future__ import annotations

import os
import re
import subprocess
import sys

import pytest


def looks_of_a_waiting_thread(program: str, **environment: str) -> int:
    """How often a thread looks for work before it sleeps, as the library that torch has loaded tells it."""
    own = {name: value for name, value in os.environ.items() if name not in {"GOMP_SPINCOUNT", "OMP_WAIT_POLICY"}}
    done = subprocess.run(
        [sys.executable, "-m", program, "--help"],
        env={**own, "OMP_DISPLAY_ENV": "verbose", **environment},
        capture_output=True,
        text=True,
        check=True,
    )
    found = re.search(r"GOMP_SPINCOUNT = '(\d+)'", done.stderr)
    assert found, done.stderr
    return int(found[1])


@pytest.mark.parametrize("program", ["service", "model_store"])
def test_waiting_threads_sleep_soon(program: str) -> None:
    assert looks_of_a_waiting_thread(program) == 20_000


@pytest.mark.parametrize(
    ("variable", "value", "looks"),
    [
        pytest.param("GOMP_SPINCOUNT", "77", 77, id="a number"),
        pytest.param("OMP_WAIT_POLICY", "passive", 0, id="a policy"),
    ],
)
def test_the_choice_of_a_user_is_kept(variable: str, value: str, looks: int) -> None:
    assert looks_of_a_waiting_thread("service", **{variable: value}) == looks
