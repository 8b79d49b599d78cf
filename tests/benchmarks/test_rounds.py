"""The order of a run, and servers that end early."""

from types import SimpleNamespace
from typing import Any

from benchmarks.serving import rounds
from benchmarks.serving.cases import Operation
from benchmarks.serving.load import Load, NoLoad
from benchmarks.serving.results import Results
from benchmarks.serving.rounds import Plan
from benchmarks.serving.servers import SERVERS, Server

from .conftest import ENCODE


class FakeRunning:
    """A fake server that answers at a fixed rate, or has ended."""

    process = SimpleNamespace(cpu_s=lambda: 0.0)

    def __init__(self, server: Server, rate: float | None) -> None:
        self.server = server
        self._rate = rate

    def load(self, operation: Operation, connections: int, seconds: float) -> Load:
        """Return the same load each time."""
        if self._rate is None:
            raise NoLoad("wrk ended with status 1: unable to connect")
        return Load(self._rate, 1.0, 2.0, 0)


def test_no_server_is_first_in_every_round() -> None:
    """The order turns by one place in each round."""
    first = [rounds.turned(SERVERS, number)[0] for number in range(len(SERVERS))]

    assert sorted(server.name for server in first) == sorted(server.name for server in SERVERS)


def test_server_that_dies_is_named_and_the_others_go_on() -> None:
    """The other servers of the cell are measured all the same."""
    results, (lost, well) = Results(), SERVERS[2:4]
    alive: list[Any] = [FakeRunning(lost, None), FakeRunning(well, 500.0)]

    rounds._visit_all(Plan((ENCODE,), (lost, well), 1.0, 1), ENCODE, alive, 0, results, lambda _: None)

    assert [visit.server for visit in results.visits] == [well.name]
    assert results.reason(lost.name, "mnist") == "wrk ended with status 1: unable to connect"
