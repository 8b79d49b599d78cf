"""What routes may ask for. FastAPI fills these in by their annotation."""

from __future__ import annotations

import hmac
from typing import Annotated, cast

from fastapi import Depends, Path, Request, Security
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from .errors import Unauthorized
from .inference.engine import Engine
from .inference.registry import ServedModel
from .lifecycle import Lifecycle
from .metrics import Metrics
from .settings import Settings
from .timings import Timings

_bearer = HTTPBearer(auto_error=False, description="needed only where LATENTD_API_KEYS is set")


async def _settings(request: Request) -> Settings:
    return cast(Settings, request.app.state.settings)


async def _engine(request: Request) -> Engine:
    return cast(Engine, request.app.state.engine)


async def _lifecycle(request: Request) -> Lifecycle:
    return cast(Lifecycle, request.app.state.lifecycle)


async def _metrics(request: Request) -> Metrics:
    return cast(Metrics, request.app.state.metrics)


async def _timings(request: Request) -> Timings:
    return cast(Timings, request.state.timings)


CurrentSettings = Annotated[Settings, Depends(_settings)]
CurrentEngine = Annotated[Engine, Depends(_engine)]
CurrentLifecycle = Annotated[Lifecycle, Depends(_lifecycle)]
CurrentMetrics = Annotated[Metrics, Depends(_metrics)]
RequestTimings = Annotated[Timings, Depends(_timings)]


async def requested_model(request: Request, engine: CurrentEngine) -> ServedModel:
    """The model that the path names, or the default model where it names none."""
    model = engine.registry.find(request.path_params.get("model"))
    request.state.model = str(model.version)  # for the log and the metrics
    return model


RequestedModel = Annotated[ServedModel, Depends(requested_model)]


async def model_in_path(
    model: Annotated[str, Path(description="name, for the newest version, or name@version", examples=["mnist"])],
) -> str:
    """Describes the path's parameter in the OpenAPI; `requested_model` reads it."""
    return model


async def require_key(
    settings: CurrentSettings, credentials: Annotated[HTTPAuthorizationCredentials | None, Security(_bearer)]
) -> None:
    """Let nobody pass without a key, where keys are set; in the same time for every wrong one."""
    if not settings.api_keys:
        return
    given = credentials.credentials.encode() if credentials else b""
    matches = [hmac.compare_digest(given, key.get_secret_value().encode()) for key in settings.api_keys]
    if not any(matches):
        raise Unauthorized
