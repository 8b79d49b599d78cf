"""A running server: started, checked until it answers rightly, put under load, measured, ended."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx

from .. import environments
from . import checks, load
from .cases import Operation
from .load import Load
from .pictures import Material
from .place import Place
from .process import DidNotStart, Process
from .servers import Server, somewhere

START_S = 90.0


@dataclass(frozen=True)
class Shelf:
    """A store with one network, and its inputs."""

    network: str
    store: Path
    material: Material


class Running:
    """A server, its network, its place and its processes; `cold_start_s` lasts until the first right answer."""

    def __init__(self, server: Server, shelf: Shelf, place: Place, process: Process) -> None:
        self.server = server
        self.process = process
        self.cold_start_s = 0.0
        self._shelf = shelf
        self._place = place
        self._scripts: dict[Operation, Path] = {}
        self._said = ""

    def begin(self) -> None:
        """Wait for the first right answer, which ends the cold start, and then for one of every operation.

        Raises:
            DidNotStart: there was none in `START_S`.
            Wrong: an operation answers wrongly.
        """
        self.cold_start_s = self._wait_for(Operation.ENCODE)
        for operation in self.server.routes:
            self._wait_for(operation)

    def load(self, operation: Operation, connections: int, seconds: float) -> Load:
        """Send requests over `connections` connections for `seconds` seconds."""
        if operation not in self._scripts:
            request = self.server.request(operation, self._shelf.material)
            self._scripts[operation] = load.write_script(request, self._place.scratch / f"wrk-{operation}")
        return load.run(self._scripts[operation], self._url(operation), connections, seconds)

    def _wait_for(self, operation: Operation) -> float:
        """Seconds from the start to the first right answer."""
        self._said = ""
        try:
            return self.process.wait_until(lambda: self._answers(operation), START_S)
        except DidNotStart as error:
            raise DidNotStart(f"{error}; {self._said}" if self._said else str(error)) from error

    def _answers(self, operation: Operation) -> bool:
        """Whether the server answers rightly. False while it does not listen yet or says that it is loading."""
        request, material = self.server.request(operation, self._shelf.material), self._shelf.material
        try:
            checks.check(self._url(operation), operation, request, material, self.server.tolerance)
        except (httpx.TransportError, checks.NotYet) as error:
            self._said = str(error)
            return False
        return True

    def _url(self, operation: Operation) -> str:
        return f"http://127.0.0.1:{self._place.port}{self.server.routes[operation].path}"


@contextmanager
def running(server: Server, shelf: Shelf, scratch: Path) -> Iterator[Running]:
    """A server that has answered each of its operations rightly. It is ended when the block is left.

    Raises:
        CannotInstall: its environment cannot be made.
        DidNotStart: it gave no right answer.
        Wrong: an operation answers wrongly.
    """
    scratch.mkdir(parents=True)
    place = somewhere(shelf.store, shelf.network, scratch)
    command = server.command(place)
    process = Process(command, server.environment(place), environments.ROOT, scratch / "log")
    try:
        alive = Running(server, shelf, place, process)
        alive.begin()
        yield alive
    finally:
        process.end()
