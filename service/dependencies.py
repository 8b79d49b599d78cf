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
from .settings import Settings

_bearer = HTTPBearer(auto_error=False, description="needed only where LATENTD_API_KEYS is set")


@dataclass(frozen=True)
class Parts:
    """What the composition root has put together."""

    settings: Settings
    metrics: Metrics
    engine: Engine
    lifecycle: Lifecycle


async def _parts(request: Request) -> Parts:
    return cast(Parts, request.app.state.parts)


AppParts = Annotated[Parts, Depends(_parts)]


async def _requested_model(request: Request, parts: AppParts) -> ServedModel:
    """The model that the path names, or the default model where it names none."""
    model = parts.engine.registry.find(request.path_params.get("model"))
    request.state.model = str(model.version)  # for the log and the metrics
    return model


RequestedModel = Annotated[ServedModel, Depends(_requested_model)]


async def _call(request: Request, model: RequestedModel, parts: AppParts) -> Call:
    return Call(request, model, parts.engine, parts.settings, request.state.timings)


CurrentCall = Annotated[Call, Depends(_call)]


async def model_in_path(
    model: Annotated[str, Path(description="name, for the newest version, or name@version", examples=["mnist"])],
) -> str:
    """Describes the path's parameter in the OpenAPI; `RequestedModel` reads it."""
    return model


async def require_key(
    parts: AppParts, credentials: Annotated[HTTPAuthorizationCredentials | None, Security(_bearer)]
) -> None:
    """Let nobody pass without a key, where keys are set; in the same time for every wrong one."""
    keys = parts.settings.api_keys
    given = credentials.credentials.encode() if credentials else b""
    matches = [hmac.compare_digest(given, key.get_secret_value().encode()) for key in keys]
    if keys and not any(matches):
        raise Unauthorized
