"""The service on Ray Serve, for more than one machine: `serve run deploy.ray_app:app replicas=4`.

Ray's proxies take the requests and pass each to one of the replicas. A replica is the app of `python -m service`, with
its own models, queue and batcher. The settings come from the environment of the person or program that deploys, and are
sent to the replicas; paths must lead to the same files on each machine. Ray listens instead of the app, so the settings
of the port, of heads and idle connections, of workers and of draining have no effect.
"""
# Without `from __future__ import annotations`: Ray needs the class itself in the annotation of `app`, not its name.

import asyncio
from contextlib import suppress

import torch
from fastapi import FastAPI
from pydantic import BaseModel, ConfigDict, Field
from ray import serve

from service.__main__ import read_settings
from service.app import create_app
from service.errors import AnswerMemoryFull, QueueFull, Starting
from service.http.state import AppState
from service.operations.decode import decode
from service.operations.session import Session
from service.settings import Settings
from service.telemetry import logs
from service.telemetry.timings import Timings

POLL_S = 0.1  # between two checks whether a replica has started


class Scale(BaseModel):
    """The number of replicas, and the cores and GPUs that each of them reserves; a replica sees no other GPUs."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    replicas: int = Field(1, ge=1)
    cpus: float = Field(1, ge=0)
    gpus: float = Field(0, ge=0)


class Replica:
    """A replica of the app; Ray adds what answers requests."""

    app: FastAPI  # set by Ray's ingress

    async def check_health(self) -> None:
        """Return when the default model, or else another one, has computed an image.

        Ray calls this regularly and replaces a replica that fails three times.

        The operation is called in process, not over the port: no key is needed, and any kind of model can decode. A
        replica that is still starting is waited for, since it gets no requests yet. A busy replica is healthy.

        Raises:
            Unavailable: the device has failed or hangs.
        """
        parts: AppState = self.app.state.parts
        while isinstance(reason := parts.lifecycle.why_not_ready(), Starting):
            await asyncio.sleep(POLL_S)
        if reason:
            raise reason
        registry = parts.registry
        model = registry.default or registry.served[0]
        with suppress(QueueFull, AnswerMemoryFull), parts.answer_memory.reserve("health check") as memory:
            session = Session(model, self.app.state.sessions.limits, Timings(), memory)
            await decode(session, torch.zeros(1, *model.card.model.latent_shape))


def app(scale: Scale) -> serve.Application:
    """The application that `serve run` and Serve's config files deploy, with the settings of the environment.

    Raises:
        ValueError: a setting is wrong.
    """
    return deployment(read_settings([]), scale).bind()


def deployment(settings: Settings, scale: Scale) -> serve.Deployment:
    """The service with these settings at this scale.

    A replica takes more requests at once than its queue and batch have room for, so that its queue answers 429 with the
    right time to try again. As many requests again may wait in the proxies.
    """

    def build() -> FastAPI:
        logs.configure(settings.log_level, settings.log_format)
        return create_app(settings)

    concurrent_requests = 2 * (settings.queue_images + settings.max_batch_images)
    return serve.deployment(
        name="latentd",
        num_replicas=scale.replicas,
        ray_actor_options={"num_cpus": scale.cpus, "num_gpus": scale.gpus},
        max_ongoing_requests=concurrent_requests,
        max_queued_requests=concurrent_requests,
        backpressure_config={"status_code": 429, "retry_after_s": 1},
        max_surge_percent=25,  # of the replicas; at least one new replica is ready before an old one ends
        graceful_shutdown_timeout_s=settings.body_timeout_s + settings.timeout_s,
        health_check_period_s=settings.hang_s / 2,  # a device that hangs fails at most two checks before it is given up
        health_check_timeout_s=settings.timeout_s,
        logging_config={"enable_access_log": False},  # the app logs each request itself
    )(serve.ingress(build)(Replica))
