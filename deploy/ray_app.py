"""The service on Ray Serve, for more machines than one: `serve run deploy.ray_app:app replicas=4`.

Ray's proxies take the requests, and hand each to one of the replicas, which are the app of `python -m service`, each
with its own models, queue and batcher. The settings are those in the environment of whoever deploys, and travel along;
paths must lead to the same files on each machine. Ray listens in the app's stead: the settings of the port, of the
connections' heads and idleness, of workers and of draining mean nothing here.
"""
# No `from __future__ import annotations`: Ray looks for the class in the annotation of what builds an application.

import asyncio
from contextlib import suppress

import torch
from fastapi import FastAPI
from pydantic import BaseModel, ConfigDict, Field
from ray import serve

from service.__main__ import read_settings
from service.app import create_app
from service.errors import QueueFull, Starting
from service.http.state import AppState
from service.operations.decode import decode
from service.operations.session import Session
from service.settings import Settings
from service.telemetry import logs
from service.telemetry.timings import Timings

LOOK_S = 0.1  # between two looks at a replica that starts


class Scale(BaseModel):
    """How many replicas there are, and what each reserves: cores, and GPUs, of which it sees no others."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    replicas: int = Field(1, ge=1)
    cpus: float = Field(1, ge=0)
    gpus: float = Field(0, ge=0)


class Replica:
    """What Ray asks of a replica, beside answers."""

    app: FastAPI  # Ray's ingress has it

    async def check_health(self) -> None:
        """Return when the default model, or another one if there is none, has computed an image.

        Ray replaces a replica that fails three times.

        The operation is called in process, not over the port: no key is needed, and any kind of model can decode. A
        replica that is still starting is waited for, since it gets no requests yet. A busy replica is healthy.

        Raises:
            Unavailable: the device has failed, or hangs.
        """
        parts: AppState = self.app.state.parts
        while isinstance(reason := parts.lifecycle.why_not_ready(), Starting):
            await asyncio.sleep(LOOK_S)
        if reason:
            raise reason
        registry = parts.registry
        model = registry.default or registry.served[0]
        with suppress(QueueFull):
            session = Session(model, self.app.state.sessions.limits, Timings())
            await decode(session, torch.zeros(1, *model.card.model.latent_shape))


def app(scale: Scale) -> serve.Application:
    """What `serve run` and Serve's config files deploy, with the settings of the environment.

    Raises:
        ValueError: a setting is wrong.
    """
    return deployment(read_settings([]), scale).bind()


def deployment(settings: Settings, scale: Scale) -> serve.Deployment:
    """The service at that scale.

    A replica takes more requests at once than its queue and batch have room for, so that the queue is what says 429,
    and when to come again. What is more still waits in the proxies, up to as many again.
    """

    def build() -> FastAPI:
        logs.configure(settings.log_level, settings.log_format)
        return create_app(settings)

    at_once = 2 * (settings.queue_images + settings.max_batch_images)
    return serve.deployment(
        name="latentd",
        num_replicas=scale.replicas,
        ray_actor_options={"num_cpus": scale.cpus, "num_gpus": scale.gpus},
        max_ongoing_requests=at_once,
        max_queued_requests=at_once,
        backpressure_config={"status_code": 429, "retry_after_s": 1},
        max_surge_percent=25,  # of the replicas; at least one new one is ready before an old one goes
        graceful_shutdown_timeout_s=settings.body_timeout_s + settings.timeout_s,
        health_check_period_s=settings.hang_s / 2,  # a device that hangs, and is given up, has failed twice at most
        health_check_timeout_s=settings.timeout_s,
        logging_config={"enable_access_log": False},  # the app has its own
    )(serve.ingress(build)(Replica))
