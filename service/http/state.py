"""What routes may ask for. FastAPI fills these in by their annotation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, cast

from fastapi import Depends, Path, Request, Security
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from ..errors import Unauthorized
from ..inference.served_model import ServedModel
from ..operations.session import Sessions
from ..settings import Settings
from ..telemetry.metrics import Metrics
from .body_memory import BodyMemory
from .call import Call
from .deadlines import Deadlines
from .keys import Keys
from .lifecycle import Lifecycle

_bearer = HTTPBearer(auto_error=False, description="needed only where the service has keys")


@dataclass(frozen=True)
class Parts:
    """What the composition root has put together."""

    settings: Settings
    keys: Keys
    metrics: Metrics
    engine: Sessions
    lifecycle: Lifecycle
    deadlines: Deadlines
    body_memory: BodyMemory


async def _parts(request: Request) -> Parts:
    return cast(Parts, request.app.state.parts)


AppParts = Annotated[Parts, Depends(_parts)]


async def _requested_model(request: Request, parts: AppParts) -> ServedModel:
    return _find(request, parts)


def _find(request: Request, parts: Parts) -> ServedModel:
    """The model that the path names, or the default model where it names none."""
    model = parts.engine.registry.find(request.path_params.get("model"))
    request.scope["state"]["model"] = model.name  # for the log and the metrics
    return model


RequestedModel = Annotated[ServedModel, Depends(_requested_model)]


def call_of(request: Request) -> Call:
    """The call that a request of an operation stands for.

    Raises:
        InvalidName, ModelNotFound, Starting: there is no such model, or not yet.
    """
    parts: Parts = request.scope["app"].state.parts
    model = _find(request, parts)
    timings = request.scope["state"]["timings"]
    return Call(request, model, parts.engine, parts.settings, parts.deadlines, parts.body_memory, timings)


CurrentCall = Annotated[Call, Depends(call_of)]


async def model_in_path(
    model: Annotated[str, Path(description="name, for the newest version, or name@version", examples=["mnist"])],
) -> str:
    """Describes the path's parameter in the OpenAPI; `RequestedModel` reads it."""
    return model


async def require_key(request: Request, _: Annotated[HTTPAuthorizationCredentials | None, Security(_bearer)]) -> None:
    """What the OpenAPI says of keys, and the check itself."""
    check_key(request)


def check_key(request: Request) -> None:
    """Let nobody pass without a key, where keys are set.

    Raises:
        Unauthorized: the request has none of them.
    """
    parts: Parts = request.scope["app"].state.parts
    if not parts.keys.admit(request.scope["headers"]):
        raise Unauthorized
