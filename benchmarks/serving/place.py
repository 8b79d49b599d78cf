"""Place: what every peer is told. It travels in the environment, which is all that their workers inherit.

The module imports only the standard library, so that every peer's environment can import it.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

_VARIABLE = "BENCH_PLACE"


@dataclass(frozen=True)
class Place:
    """A store, a model's name, ports of 127.0.0.1, a folder to fill, and how many processes with how many threads."""

    store: Path
    model: str
    port: int
    other_ports: tuple[int, ...]
    scratch: Path
    workers: int
    threads: int

    def environment(self) -> dict[str, str]:
        """The environment variable that holds the place, as JSON."""
        return {_VARIABLE: json.dumps(vars(self), default=str)}


def here(environment: Mapping[str, str] = os.environ) -> Place:
    """The place of this process, from its environment."""
    told = json.loads(environment[_VARIABLE])
    paths = {"store": Path(told["store"]), "scratch": Path(told["scratch"])}
    return Place(**told | paths | {"other_ports": tuple(told["other_ports"])})
