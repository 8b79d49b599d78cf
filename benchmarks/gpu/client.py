"""A light client for machines without wrk: threads, a kept connection each, a closed loop."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from http.client import HTTPConnection

OK = 200


class Refused(Exception):
    """The status of an answer is not a success."""


@dataclass(frozen=True)
class Question:
    """A request to a port of this machine."""

    port: int
    method: str
    path: str
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Load:
    """The seconds of each answer, and of all answers together."""

    latencies_s: list[float]
    seconds: float

    @property
    def requests_per_s(self) -> float:
        """Answers per second, over all connections."""
        return len(self.latencies_s) / self.seconds


def answer(question: Question) -> bytes:
    """Send the request once and return the answer.

    Raises:
        Refused: the status of an answer is not 200.
    """
    return _once(_connect(question), question)


def load(question: Question, connections: int, wants_more: Callable[[int, float], bool]) -> Load:
    """Send requests over `connections` connections. Each goes on while `wants_more(answers, seconds)` is true.

    Raises:
        Refused: the status of an answer is not 200.
    """
    began = time.perf_counter()

    def ask(_: int) -> list[float]:
        connection = _connect(question)
        taken: list[float] = []
        while wants_more(len(taken), time.perf_counter() - began):
            asked = time.perf_counter()
            _once(connection, question)
            taken.append(time.perf_counter() - asked)
        connection.close()
        return taken

    with ThreadPoolExecutor(connections) as pool:
        each = list(pool.map(ask, range(connections)))
    return Load([taken for one in each for taken in one], time.perf_counter() - began)


def _connect(question: Question) -> HTTPConnection:
    return HTTPConnection("127.0.0.1", question.port, timeout=60)


def _once(connection: HTTPConnection, question: Question) -> bytes:
    connection.request(question.method, question.path, question.body, dict(question.headers))
    response = connection.getresponse()
    content = response.read()
    if response.status != OK:
        raise Refused(f"{question.path} answered {response.status}: {content[:200]!r}")
    return content
