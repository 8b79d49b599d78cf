"""The composition root: makes the ASGI application from the settings. Only `__main__` imports it."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from functools import partial
from importlib.metadata import version
from typing import Any

import torch
from fastapi import FastAPI
from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp

from model_store import Store
from model_store.free_memory import free_memory
from model_store.vae.device import choose_device

from .compute.device import INLINE_S, INLINE_S_WITH_WORKERS, Device
from .compute.plan_cache import PlanCache
from .compute.runtimes import choose_runtime
from .errors import AnswerMemoryFull, BodyMemoryFull
from .http import health, problems
from .http.access import Access
from .http.body_turns import BodyTurns
from .http.call import RequestLimits
from .http.client import address_of, unchecked_client_of
from .http.cross_site import OtherSites
from .http.deadlines import Deadlines
from .http.fair_start import FairStart
from .http.hosts import Hosts, is_local
from .http.keys import Keys
from .http.lifecycle import Lifecycle
from .http.proxies import ClientAddresses, Forwarded, RootPath
from .http.router import KEY, Mount, Router
from .http.state import AppState
from .inference.load_attempts import LoadAttempts
from .inference.loader import Loader
from .inference.registry import Registry
from .memory import Memory
from .offload import Processes
from .operations.limits import Limits
from .operations.session import Sessions
from .protocols.remote_vae import routes as remote_vae
from .protocols.v1 import models, openapi
from .protocols.v1 import routes as v1
from .settings import Settings
from .telemetry.metrics import Metrics
from .telemetry.scrapes import Scrapes
from .web import documentation, page

SMALL_BODIES_BYTES = 16_777_216  # kept for bodies of at most 64 KiB
SMALL_ANSWERS_BYTES = 67_108_864  # kept for answers that need at most 64 KiB, of which thousands may be under way
# An eighth of the free memory: beside it are the weights, the answers and the bodies.
COMPUTE_SHARE, LEAST_COMPUTE_BYTES, MOST_COMPUTE_BYTES = 8, 2**28, 2**31
MAX_PROCESSES = 2  # of one pool: each adds its memory to the bound; a service with more workers has more of them
PROCESS_BYTES = 64 * 2**20  # of a process, beside the body, its copy and the memory of a request


def create_app(settings: Settings, metrics: Metrics | None = None) -> FastAPI:
    """The application. It reads its models when it is started, and answers 503 until then.

    Args:
        settings: of the service.
        metrics: those that several processes share; without them the application has its own.

    Raises:
        NoSuchDevice, NoSuchRuntime: what the settings name is not there.
        ValueError: the file of keys cannot be used.
    """
    state = create_state(settings, metrics or Metrics())
    app = FastAPI(
        title="latentd",
        version=version("latentd"),
        description="Autoencoders over HTTP: images to latents, latents to images, and new images.",
        openapi_url=None,  # web/documentation.py has both, from memory and with relative addresses
        docs_url=None,
        redoc_url=None,
        # or FastAPI reads FASTAPI_OTEL_AUTO_CONFIGURE, and looks for OpenTelemetry's providers at each request (8 µs)
        telemetry={"auto_configure": False, "tracing": False, "metrics": False, "logs": False},
        openapi_tags=[*openapi.TAGS, remote_vae.TAG],
        # relative to the OpenAPI's own address, so that a proxy's prefix stays in front
        servers=[{"url": ".", "description": "this service"}],
        root_path_in_servers=False,
        redirect_slashes=False,  # a redirect would name the scheme and host between proxy and service
        lifespan=partial(lifespan, settings.reload_s),
    )
    app.state.parts = state
    app.state.sessions = sessions = Sessions(state.registry, create_limits(settings))
    mounts = [*v1.mounts(sessions), *remote_vae.mounts(sessions)]
    app.include_router(models.router, prefix="/v1", dependencies=[KEY])
    for mount in mounts:
        app.include_router(mount.documentation())
    app.include_router(health.router)
    app.include_router(page.router)
    app.include_router(documentation.router)
    problems.install(app)
    app.openapi = partial(_described, app, app.openapi)  # type: ignore[method-assign]  # FastAPI's documented way
    app.middleware_stack = asgi_stack(app, mounts, state, settings)
    return app


def prepare_app(settings: Settings, metrics: Metrics | None = None) -> FastAPI:
    """The application as `create_app` makes it, with what would hold up requests made before it serves.

    Raises:
        NoSuchDevice, NoSuchRuntime, ValueError: as in `create_app`.
    """
    app = create_app(settings, metrics)
    documentation.make_openapi(app)
    return app


def _described(app: FastAPI, describe: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """FastAPI's OpenAPI, made at the first request for it, with a format for each integer."""
    if app.openapi_schema is None:
        openapi.describe_integers(describe())
    return describe()


def asgi_stack(app: FastAPI, mounts: Sequence[Mount[Any]], state: AppState, settings: Settings) -> ASGIApp:
    """The layers that a request passes, the innermost first: FastAPI, endpoints and keys, other sites, proxies, log."""
    stack: ASGIApp = app.build_middleware_stack()
    stack = Router(stack, mounts, state, locked=() if settings.open_without_key else ("/metrics",))
    if settings.cors_origins:
        stack = CORSMiddleware(
            stack,
            allow_origins=settings.cors_origins,
            allow_methods=("GET", "POST"),
            allow_headers=("Authorization", "Content-Type", "If-None-Match", "X-Request-Id"),
            expose_headers=("ETag", "Retry-After", "Server-Timing", "X-Model", "X-Request-Id", "X-Seed"),
        )
    if not state.keys.are_needed:  # a page of another site cannot send a key
        stack = OtherSites(stack, settings.cors_origins)
    stack = RootPath(stack, settings.root_path or "")
    if settings.forwarded_by:
        stack = Forwarded(stack, settings.forwarded_by)
    # around Forwarded: a page could write X-Forwarded-Host, but not Host
    if settings.hosts:
        stack = stack if "*" in settings.hosts else Hosts(stack, settings.hosts)
    elif not state.keys.are_needed and is_local(settings.host):
        stack = Hosts(stack, ())
    return Access(stack, state.metrics, state.lifecycle)


def create_state(settings: Settings, metrics: Metrics) -> AppState:
    """The parts of the app that HTTP needs.

    Raises:
        NoSuchDevice, NoSuchRuntime: what the settings name is not there.
        ValueError: the file of keys cannot be used.
    """
    keys = Keys(settings.api_keys, settings.api_keys_file)
    registry = create_registry(settings, metrics)
    address = ClientAddresses(settings.forwarded_by) if settings.forwarded_by else address_of
    fair_start = FairStart(partial(unchecked_client_of, keys=keys, address=address))
    return AppState(
        keys=keys,
        open_without_key=settings.open_without_key,
        metrics=metrics,
        scrapes=Scrapes(metrics),
        registry=registry,
        lifecycle=Lifecycle(registry),
        fair_start=fair_start,
        deadlines=Deadlines(),
        body_turns=BodyTurns(fair_start.connections),
        body_memory=Memory(settings.max_bodies_bytes, SMALL_BODIES_BYTES, BodyMemoryFull),
        answer_memory=Memory(settings.max_answers_bytes, SMALL_ANSWERS_BYTES, AnswerMemoryFull),
        processes=create_processes(settings),
        limits=RequestLimits(settings.max_body_bytes, settings.body_timeout_s, settings.timeout_s),
    )


def create_limits(settings: Settings) -> Limits:
    """The limits of one request."""
    return Limits(
        images=settings.max_images_per_request,
        pixels=settings.max_request_pixels,
        picture_pixels=settings.max_pixels,
        draws=settings.max_score_draws,
        answer_bytes=settings.max_answer_bytes,
        compute_bytes=settings.max_compute_bytes or compute_share(),
        compute_s=0.9 * settings.hang_s,  # a longer computation would be taken for one that hangs
    )


def compute_share() -> int:
    """The memory that the computation of one image may take: a share of the memory that is free at the start."""
    return max(LEAST_COMPUTE_BYTES, min(free_memory() // COMPUTE_SHARE, MOST_COMPUTE_BYTES))


def create_registry(settings: Settings, metrics: Metrics) -> Registry:
    """The registry of the store's models and the device that computes them. It has read no model yet.

    Raises:
        NoSuchDevice, NoSuchRuntime: what the settings name is not there.
    """
    device = choose_device(settings.device)
    dtype = None if settings.dtype == "auto" else getattr(torch, settings.dtype)
    inline_s = INLINE_S_WITH_WORKERS if settings.workers > 1 else INLINE_S
    loader = Loader(
        Store(settings.store),
        Device(device, dtype, choose_runtime(settings.runtime, device, dtype), inline_s, settings.hang_s),
        metrics,
        PlanCache(settings.cache),
        LoadAttempts(settings.cache),
        max_batch_images=settings.max_batch_images,
        queue_images=settings.queue_images,
    )
    return Registry(
        loader, metrics, default_model=settings.default_model, versions_per_model=settings.versions_per_model
    )


def create_processes(settings: Settings) -> Processes:
    """The processes that read bodies and write answers; none has been started yet."""
    return Processes(
        min(max(1, (os.cpu_count() or 1) // settings.workers), MAX_PROCESSES),
        process_bytes(settings),
        v1.PROCESS_MODULES,
    )


def process_bytes(settings: Settings) -> int:
    """The memory that one process may use, in bytes; the kernel refuses it more."""
    return PROCESS_BYTES + 2 * settings.max_body_bytes + settings.max_answer_bytes


@asynccontextmanager
async def lifespan(reload_s: float, app: FastAPI) -> AsyncIterator[None]:
    """Refresh the models and watch the device while the app runs, and close the device at the end."""
    parts: AppState = app.state.parts
    registry = parts.registry
    parts.processes.start()
    background_tasks = [
        asyncio.create_task(work) for work in (registry.refresh_forever(reload_s), registry.device.watch())
    ]
    yield
    for task in background_tasks:
        task.cancel()
    registry.device.close()
    parts.processes.close()
