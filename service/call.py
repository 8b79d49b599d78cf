"""Call: one call of an operation, as it travels from the route through body and engine to the answer."""

from __future__ import annotations

from dataclasses import dataclass

from starlette.requests import Request

from .inference.engine import Engine
from .inference.registry import ServedModel
from .settings import Settings
from .timings import Timings


@dataclass(frozen=True)
class Call:
    """The request, the model it means, whom to ask, within which limits, and where its time goes."""

    request: Request
    model: ServedModel
    engine: Engine
    settings: Settings
    timings: Timings

    @property
    def is_pinned(self) -> bool:
        """Whether the path names a version, so that the same model answers for ever."""
        return "@" in self.request.path_params.get("model", "")
