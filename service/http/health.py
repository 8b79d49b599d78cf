"""Health and metrics, for orchestrators and monitors. Probes never need a key, and name no model without one."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response
from prometheus_client import CONTENT_TYPE_PLAIN_0_0_4
from pydantic import BaseModel, Field

from model_store.vae.record import Count

from ..errors import NotServing, Unavailable
from .problems import documented_errors, words_of
from .state import AppState, CurrentState

router = APIRouter(tags=["health"])


class HealthAnswer(BaseModel):
    """The state of the service."""

    status: str
    reason: str | None = Field(description="why the service is not ready")
    warnings: list[str] | None = Field(description="faults of the store that must be mended, though models are served")
    device: str
    models: list[str] | None = Field(description="null without a key, where the service has keys; so are the warnings")
    waiting_images: Count


@router.head("/livez", include_in_schema=False)
@router.get("/livez", summary="is the process alive?", responses=documented_errors(500))
async def livez(state: CurrentState) -> dict[str, str]:
    """200 while the process works; 500 when it must be restarted, which is 30 s after its device has failed."""
    if reason := state.lifecycle.why_restart():
        raise reason
    return {"status": "alive"}


@router.head("/readyz", include_in_schema=False)
@router.get("/readyz", summary="is it ready for requests?", responses=documented_errors(503))
async def readyz(request: Request, state: CurrentState) -> dict[str, str]:
    """200 when requests will be answered; else 503 with the reason, such as a device that has failed."""
    if reason := why_not_ready(request, state):
        raise reason
    return {"status": "ready"}


@router.head("/healthz", include_in_schema=False)
@router.get("/healthz", summary="the service at a glance")
async def healthz(request: Request, state: CurrentState) -> HealthAnswer:
    """The same as /readyz in words, with the device, the models and the queue; always 200."""
    reason, registry = why_not_ready(request, state), state.registry
    may_know = state.may_know_names(request.scope)
    return HealthAnswer(
        status=words_of(type(reason).__name__) if reason else "ready",
        reason=str(reason) if reason else None,
        warnings=registry.warnings if may_know else None,
        device=str(registry.device),
        models=[str(served.version) for served in registry.served] if may_know else None,
        waiting_images=sum(served.batcher.waiting_images for served in registry.served),
    )


@router.head("/metrics", include_in_schema=False)
@router.get("/metrics", summary="for Prometheus", response_class=Response, responses=documented_errors(401))
async def metrics(state: CurrentState) -> Response:
    """Counts of requests, batches and waiting images, and the time of each stage, at most once a second."""
    return Response(await state.scrapes.text(), media_type=CONTENT_TYPE_PLAIN_0_0_4)


def why_not_ready(request: Request, state: AppState) -> Unavailable | None:
    """Why the service is not ready, without the names of models for a client that may not know them."""
    reason = state.lifecycle.why_not_ready()
    if isinstance(reason, NotServing) and not state.may_know_names(request.scope):
        return NotServing("No model, or not the default model, can be served; ask with a key for the reason.")
    return reason
