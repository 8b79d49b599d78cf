"""The composition root: settings in, an ASGI application out. It imports everything; only `__main__` imports it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from functools import partial
from importlib.metadata import version
from typing import Any

import structlog
import torch
from fastapi import APIRouter, Depends, FastAPI
from fastapi_offline import FastAPIOffline
from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp

from model_store import Store
from model_store.vae.device import choose_device

from .compute.device import INLINE_S, INLINE_S_WITH_WORKERS, Device
from .compute.plan_cache import PlanCache
from .compute.runtimes import choose_runtime
from .http import health, problems
from .http.access import Access
from .http.body_memory import BodyMemory
from .http.deadlines import Deadlines
from .http.keys import Keys
from .http.lifecycle import Lifecycle
from .http.proxies import Forwarded, RootPath
from .http.shortcut import Shortcut
from .http.state import Parts, model_in_path, require_key
from .inference.loader import Loader
from .inference.registry import Registry
from .operations.limits import Limits
from .operations.session import Sessions
from .protocols.v1 import endpoints, models, openapi
from .settings import Settings
from .telemetry.metrics import Metrics
from .web import page

log = structlog.get_logger()


def create_app(settings: Settings, metrics: Metrics | None = None) -> FastAPI:
    """The application. It reads its models when it is started, and answers 503 until then.

    Args:
        settings: of the service.
        metrics: those that several processes share; without them the application has its own.

    Raises:
        NoSuchDevice, NoSuchRuntime: what the settings name is not there.
        ValueError: the file of keys cannot be used.
    """
    metrics = metrics or Metrics()
    keys = Keys(settings.api_keys, settings.api_keys_file)
    registry = _registry(settings, metrics)
    app = FastAPIOffline(
        title="latentd",
        version=version("latentd"),
        description="Variational autoencoders over HTTP: encode, decode, sample, reconstruct.",
        docs_url=None,  # the page's router has one, with relative addresses
        redoc_url=None,
        telemetry={"auto_configure": False},  # or FastAPI reads FASTAPI_OTEL_AUTO_CONFIGURE, and exports what it sees
        openapi_tags=openapi.TAGS,
        # beside the OpenAPI itself, whatever prefix a proxy has put in front
        servers=[{"url": ".", "description": "this service"}],
        root_path_in_servers=False,
        redirect_slashes=False,  # the redirect would name the scheme and host that a proxy has used
        lifespan=_lifespan,
    )
    limits = Limits(settings.max_images_per_request, settings.max_request_pixels, settings.max_score_draws)
    engine = Sessions(registry, limits)
    lifecycle = Lifecycle(registry)
    app.state.parts = Parts(
        settings, keys, metrics, engine, lifecycle, Deadlines(), BodyMemory(settings.max_bodies_bytes)
    )
    app.include_router(_v1())
    app.include_router(health.router)
    app.include_router(page.router)
    problems.install(app)
    app.openapi = partial(_described, app, app.openapi)  # type: ignore[method-assign]  # FastAPI's documented way
    app.middleware_stack = Access(_way_in(app, settings), metrics, lifecycle)
    return app


def _described(app: FastAPI, describe: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """FastAPI's description, made at the first request for it, with a format for each integer."""
    if app.openapi_schema is None:
        openapi.describe_integers(describe())
    return describe()


def _way_in(app: FastAPI, settings: Settings) -> ASGIApp:
    """The app behind its shortcut; where other sites' pages may call it, behind CORS; and all behind proxies."""
    way: ASGIApp = Shortcut(app.build_middleware_stack(), endpoints.router.routes)
    if settings.cors_origins:
        way = _cors(way, settings.cors_origins)
    way = RootPath(way, settings.root_path or "")
    return Forwarded(way, settings.forwarded_by) if settings.forwarded_by else way


def _cors(app: ASGIApp, origins: Sequence[str]) -> ASGIApp:
    return CORSMiddleware(
        app,
        allow_origins=origins,
        allow_methods=("GET", "POST"),
        allow_headers=("Authorization", "Content-Type", "If-None-Match", "X-Request-Id"),
        expose_headers=("ETag", "Retry-After", "Server-Timing", "X-Model", "X-Request-Id", "X-Seed"),
    )


def _registry(settings: Settings, metrics: Metrics) -> Registry:
    device = choose_device(settings.device)
    dtype = None if settings.dtype == "auto" else getattr(torch, settings.dtype)
    inline_s = INLINE_S_WITH_WORKERS if settings.workers > 1 else INLINE_S
    loader = Loader(
        Store(settings.store),
        Device(device, dtype, choose_runtime(settings.runtime, device, dtype), inline_s, settings.hang_s),
        metrics,
        PlanCache(settings.cache),
        max_batch_images=settings.max_batch_images,
        queue_images=settings.queue_images,
    )
    return Registry(
        loader, metrics, default_model=settings.default_model, versions_per_model=settings.versions_per_model
    )


def _v1() -> APIRouter:
    router = APIRouter(prefix="/v1", dependencies=[Depends(require_key)])
    router.include_router(models.router)
    router.include_router(endpoints.router, prefix="/models/{model}", dependencies=[Depends(model_in_path)])
    router.include_router(endpoints.router, include_in_schema=False)  # the description of the tag names this form
    return router


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    """Read the models beside the first requests, look for new ones from time to time, end with the device."""
    parts: Parts = app.state.parts
    registry = parts.engine.registry
    keepers = [
        asyncio.create_task(work)
        for work in (registry.refresh_forever(parts.settings.reload_s), registry.device.watch())
    ]
    yield
    for keeper in keepers:
        keeper.cancel()
    registry.device.close()
