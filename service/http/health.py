"""For orchestrators and monitors. Probes are never behind a key."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response
from prometheus_client import CONTENT_TYPE_LATEST

from ..protocols.v1.openapi import documented_errors
from ..protocols.v1.schemas import HealthAnswer
from .state import AppParts, check_key

router = APIRouter(tags=["health"])


@router.head("/livez", include_in_schema=False)
@router.get("/livez", summary="is the process alive?", responses=documented_errors(500))
async def livez(parts: AppParts) -> dict[str, str]:
    """200 while the process can answer; 500 when it wants to be restarted: 30 s after its device has failed."""
    if ruin := parts.lifecycle.ruin():
        raise ruin
    return {"status": "alive"}


@router.head("/readyz", include_in_schema=False)
@router.get("/readyz", summary="does it want requests?", responses=documented_errors(503))
async def readyz(parts: AppParts) -> dict[str, str]:
    """200 when requests will be answered; 503 with the reason when not, such as a device that has failed."""
    if obstacle := parts.lifecycle.obstacle():
        raise obstacle
    return {"status": "ready"}


@router.head("/healthz", include_in_schema=False)
@router.get("/healthz", summary="the service at a glance")
async def healthz(parts: AppParts) -> HealthAnswer:
    """The same as /readyz in words, and what is served where; always 200."""
    obstacle, registry = parts.lifecycle.obstacle(), parts.engine.registry
    return HealthAnswer(
        status=type(obstacle).__name__.lower() if obstacle else "ready",
        reason=str(obstacle) if obstacle else None,
        device=str(registry.device),
        models=[str(served.version) for served in registry.served],
        waiting_images=sum(served.batcher.waiting_images for served in registry.served),
    )


@router.head("/metrics", include_in_schema=False)
@router.get("/metrics", summary="for Prometheus", response_class=Response, responses=documented_errors(401))
async def metrics(request: Request, parts: AppParts) -> Response:
    """Requests, batches, queues, and where the time goes; behind a key where the operator wants it."""
    if parts.settings.metrics_need_key:
        check_key(request)
    return Response(parts.metrics.text(), media_type=CONTENT_TYPE_LATEST)
