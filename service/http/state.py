"""AppState: the parts of the service that HTTP needs, made once by the composition root."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, cast

from fastapi import Depends, Request
from starlette.types import Scope

from ..inference.registry import Registry
from ..memory import Memory
from ..offload import Processes
from ..telemetry.metrics import Metrics
from ..telemetry.scrapes import Scrapes
from .body_turns import BodyTurns
from .call import RequestLimits
from .deadlines import Deadlines
from .fair_start import FairStart
from .keys import Keys
from .lifecycle import Lifecycle


@dataclass(frozen=True)
class AppState:
    """The objects that all requests share."""

    keys: Keys
    open_without_key: bool
    metrics: Metrics
    scrapes: Scrapes
    registry: Registry
    lifecycle: Lifecycle
    fair_start: FairStart
    deadlines: Deadlines
    body_turns: BodyTurns
    body_memory: Memory
    answer_memory: Memory
    processes: Processes
    limits: RequestLimits

    def may_know_names(self, scope: Scope) -> bool:
        """Whether the client of a request may know which models there are."""
        return self.open_without_key or self.keys.admit(scope["headers"])


async def current_state(request: Request) -> AppState:
    """The state of the app that a request has reached. A coroutine: FastAPI calls other functions in a thread."""
    return cast(AppState, request.app.state.parts)


CurrentState = Annotated[AppState, Depends(current_state)]
"""A parameter of this type makes FastAPI give a route the app's state."""
