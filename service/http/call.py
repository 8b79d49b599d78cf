"""Call: what a protocol needs of one request, and no object of a framework.

A call knows no model and no operation.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any, NamedTuple, ParamSpec, TypeVar

from starlette.types import Receive

from ..errors import BodyTimeout, DeadlineExceeded
from ..memory import Memory, Reservation
from ..offload import Processes
from ..telemetry.timings import Timings
from .body import check_head, read_all
from .body_turns import BodyTurns
from .deadlines import Deadlines

P = ParamSpec("P")
T = TypeVar("T")


class RequestLimits(NamedTuple):
    """The bytes of one request's body, and the seconds for it to arrive and for the answer to be computed."""

    max_body_bytes: int
    body_timeout_s: float
    answer_timeout_s: float


@dataclass
class Call:
    """A request: its head, its body, and the limits of size, time and memory within which it is answered."""

    raw_headers: Sequence[tuple[bytes, bytes]]
    path: Mapping[str, str]
    """The values of the names in an address: `{"model": "mnist"}` for /v1/models/{model}/encode."""
    receive: Receive
    state: dict[str, Any]
    """ASGI's state of the request, from which its log line and its metrics are written at the end."""
    limits: RequestLimits
    deadlines: Deadlines
    body_turns: BodyTurns
    body_memory: Memory
    processes: Processes
    memory: Reservation
    """The memory for the tensors and the answer of this request, until the client has taken the answer."""
    client: str
    """The name by which clients are told apart: it stands for the API key, or for the address."""

    @cached_property
    def headers(self) -> Mapping[str, str]:
        """The headers by their names in small letters; several with one name are one list (RFC 9110, section 5.3)."""
        headers: dict[str, str] = {}
        for raw_name, raw_value in self.raw_headers:
            name, value = raw_name.decode("latin-1"), raw_value.decode("latin-1")
            headers[name] = f"{headers[name]}, {value}" if name in headers else value
        return headers

    @property
    def timings(self) -> Timings:
        """How long each stage of the request has taken."""
        timings: Timings = self.state["timings"]
        return timings

    def log_model(self, name: str) -> None:
        """Name the model in the log line and the metrics of this request."""
        self.state["model"] = name

    async def read_body(self, media_types: Sequence[str] | None, reservation: Reservation) -> tuple[str, bytes]:
        """The Content-Type, with its parameters, and the content of a body of one of the media types.

        None takes every Content-Type, and a body without one: the protocol tells in another way how to read it.

        Raises:
            UnsupportedMediaType, UnsupportedEncoding: the body is in another format.
            TooLarge, BodyMemoryFull: the body is larger than a limit, or than the memory that is left.
            BodyTimeout, ClientGone: the body has not arrived in time, or never will.
        """
        max_bytes, limit_s = self.limits.max_body_bytes, self.limits.body_timeout_s
        content_type = check_head(self.headers, media_types, max_bytes)
        content = read_all(self.receive, max_bytes, reservation, partial(self.body_turns.next_part, self.client))
        return content_type, await self.deadlines.run_until(limit_s, content, BodyTimeout(limit_s))

    async def wait_for(self, work: Coroutine[Any, Any, T], remedy: str = "send fewer images") -> T:
        """The result of the work, which is cancelled if the client hangs up. The request's body must have been read.

        The remedy tells the client what to change where the time is too short, such as "send fewer images".

        Raises:
            ClientGone: the client has hung up.
            DeadlineExceeded: the time for an answer is over.
        """
        limit_s = self.limits.answer_timeout_s
        return await self.deadlines.run_until(limit_s, work, DeadlineExceeded(limit_s, remedy), self.hung_up)

    async def read_in_process(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """The result of a function that reads the body, called in a process. Its errors are raised here.

        Raises:
            ProcessesBusy, ProcessLost, MemoryExceeded: the processes have no room for the work, now or at all.
            ClientGone, DeadlineExceeded: the work was ended.
        """
        return await self.wait_for(self.processes.reading.run(self.client, function, *args, **kwargs))

    async def write_in_process(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """The result of a function that writes the answer; otherwise as `read_in_process`."""
        work = self.processes.writing.run(self.client, function, *args, **kwargs)
        return await self.wait_for(work, "ask for fewer images")

    async def hung_up(self) -> None:
        """Return when the client has hung up. The body must have been read, or its rest would be lost."""
        while (await self.receive())["type"] != "http.disconnect":
            pass
