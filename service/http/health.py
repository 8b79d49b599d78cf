"""For orchestrators and monitors. Probes are never behind a key."""

from __future__ import annotations

from fastapi import APIRouter, Response
from prometheus_client import CONTENT_TYPE_LATEST
from pydantic import BaseModel, Field

from model_store.vae.record import Count

from .problems import documented_errors
from .state import CurrentState

router = APIRouter(tags=["health"])


class HealthAnswer(BaseModel):
    """The service at a glance."""

    status: str
    reason: str | None = Field(description="why the service is not ready")
    device: str
    models: list[str]
    waiting_images: Count


@router.head("/livez", include_in_schema=False)
@router.get("/livez", summary="is the process alive?", responses=documented_errors(500))
async def livez(state: CurrentState) -> dict[str, str]:
    """200 while the process can answer; 500 when it wants to be restarted: 30 s after its device has failed."""
    if ruin := state.lifecycle.ruin():
        raise ruin
    return {"status": "alive"}


@router.head("/readyz", include_in_schema=False)
@router.get("/readyz", summary="does it want requests?", responses=documented_errors(503))
async def readyz(state: CurrentState) -> dict[str, str]:
    """200 when requests will be answered; 503 with the reason when not, such as a device that has failed."""
    if obstacle := state.lifecycle.obstacle():
        raise obstacle
    return {"status": "ready"}


@router.head("/healthz", include_in_schema=False)
@router.get("/healthz", summary="the service at a glance")
async def healthz(state: CurrentState) -> HealthAnswer:
    """The same as /readyz in words, and what is served where; always 200."""
    obstacle, registry = state.lifecycle.obstacle(), state.registry
    return HealthAnswer(
        status=type(obstacle).__name__.lower() if obstacle else "ready",
        reason=str(obstacle) if obstacle else None,
        device=str(registry.device),
        models=[str(served.version) for served in registry.served],
        waiting_images=sum(served.batcher.waiting_images for served in registry.served),
    )


@router.head("/metrics", include_in_schema=False)
@router.get("/metrics", summary="for Prometheus", response_class=Response, responses=documented_errors(401))
async def metrics(state: CurrentState) -> Response:
    """Requests, batches, queues, and where the time goes; behind a key where the operator wants it."""
    return Response(state.metrics.text(), media_type=CONTENT_TYPE_LATEST)
