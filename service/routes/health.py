"""For orchestrators and monitors. Probes are never behind a key."""

from __future__ import annotations

from fastapi import APIRouter, Response
from prometheus_client import CONTENT_TYPE_LATEST

from ..dependencies import AppParts
from ..openapi import problems
from ..schemas import HealthAnswer

router = APIRouter(tags=["health"])


@router.head("/livez", include_in_schema=False)
@router.get("/livez", summary="is the process alive?")
async def livez() -> dict[str, str]:
    """200 while the process can answer at all; otherwise it wants to be restarted."""
    return {"status": "alive"}


@router.head("/readyz", include_in_schema=False)
@router.get("/readyz", summary="does it want requests?", responses=problems(503))
async def readyz(parts: AppParts) -> dict[str, str]:
    """200 when requests will be answered; 503 while starting, while stopping, and when the device has failed."""
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
        device=str(registry.device),
        models=[str(served.version) for served in registry.served],
        waiting_images=sum(served.batcher.waiting_images for served in registry.served),
    )


@router.get("/metrics", summary="for Prometheus", response_class=Response)
async def metrics(parts: AppParts) -> Response:
    """Requests, batches, queues, and where the time goes."""
    return Response(parts.metrics.text(), media_type=CONTENT_TYPE_LATEST)
