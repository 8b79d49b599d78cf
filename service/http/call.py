"""Call: one call of an operation, as it travels from the route through body and engine to the answer."""

from __future__ import annotations

from collections.abc import Coroutine, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeVar

from starlette.requests import Request

from ..errors import DeadlineExceeded
from ..inference.served_model import ServedModel
from ..operations.session import Sessions
from ..settings import Settings
from ..telemetry.timings import Timings
from .body_memory import BodyMemory
from .deadlines import Deadlines

T = TypeVar("T")


@dataclass
class Call:
    """The request, the model it means, whom to ask, within which limits of size, time and memory, and where it goes."""

    request: Request
    model: ServedModel
    engine: Sessions
    settings: Settings
    deadlines: Deadlines
    body_memory: BodyMemory
    timings: Timings

    @cached_property
    def headers(self) -> Mapping[str, str]:
        """The request's headers by their names in small letters; of several with one name, the first."""
        raw = self.request.scope["headers"]
        return {name.decode("latin-1"): value.decode("latin-1") for name, value in reversed(raw)}

    @property
    def is_pinned(self) -> bool:
        """Whether the path names a version, so that the same model answers for ever."""
        return "@" in self.request.path_params.get("model", "")

    async def wait_for(self, work: Coroutine[Any, Any, T], remedy: str = "send fewer images") -> T:
        """What the work gives, while somebody waits for it. The request's body must have been read.

        The remedy is what the caller can change where the time is too short, such as "send fewer images".

        Raises:
            ClientGone: the caller hung up.
            DeadlineExceeded: the time for an answer is over.
        """
        limit_s = self.settings.timeout_s
        return await self.deadlines.keep(work, limit_s, DeadlineExceeded(limit_s, remedy), self.request)
