"""What routes may ask for. FastAPI fills these in by their annotation."""

from __future__ import annotations

import hmac
from dataclasses import dataclass
from typing import Annotated, cast

from fastapi import Depends, Path, Request, Security
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from .call import Call
from .errors import Unauthorized
from .inference.engine import Engine
from .inference.registry import ServedModel
from .lifecycle import Lifecycle
from .metrics import Metrics
from .patience import Patience
from .settings import Settings

_bearer = HTTPBearer(auto_error=False, description="needed only where LATENTD_API_KEYS is set")


@dataclass(frozen=True)
class Parts:
    """What the composition root has put together."""

    settings: Settings
    metrics: Metrics
    engine: Engine
    lifecycle: Lifecycle
    patience: Patience


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
    return Call(request, model, parts.engine, parts.settings, parts.patience, request.scope["state"]["timings"])


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
    """Let nobody pass without a key, where keys are set; in the same time for every wrong one.

    Raises:
        Unauthorized: the request has none of them.
    """
    keys = request.scope["app"].state.parts.settings.api_keys
    if not keys:
        return
    scheme, _, key = request.headers.get("authorization", "").partition(" ")
    given = key.strip().encode() if scheme.lower() == "bearer" else b""
    matches = [hmac.compare_digest(given, known.get_secret_value().encode()) for known in keys]
    if not any(matches):
        raise Unauthorized
