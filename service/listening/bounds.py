"""The limits that a server keeps, for a connection and for its own shutdown."""

from __future__ import annotations

from typing import NamedTuple


class Bounds(NamedTuple):
    """The limits of one connection.

    Attributes:
        head_bytes: size of a request's head, which is its first line and its headers.
        head_s: seconds for a head to arrive.
        body_s: seconds for a body to arrive, and for the client to take an answer. When answers follow one another,
            each has this time: the next one is written when the client has taken nearly all of the last.
        idle_s: seconds between an answer and the next request.
    """

    head_bytes: int
    head_s: float
    body_s: float
    idle_s: int


class Shutdown(NamedTuple):
    """How long a server goes on after SIGTERM.

    Attributes:
        drain_s: seconds during which it still accepts connections, while /readyz answers 503.
        answer_s: seconds in which an accepted request is computed.
    """

    drain_s: float
    answer_s: float
