"""The service in process: its app on a store of small models, and a client that speaks to it without a socket."""

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest
from fastapi import FastAPI

from model_store import Store
from service.app import create_app
from service.settings import Settings
from service.telemetry import logs


@pytest.fixture(scope="session")
def plans(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One cache of batch plans for all tests, so that most warm-ups are short: each would take 0.1 s."""
    return tmp_path_factory.mktemp("plans")


@pytest.fixture
def settings(store: Store, plans: Path) -> Settings:
    """Small limits, and nothing of the environment."""
    return Settings(
        store=store.root,
        cache=plans,
        default_model="grey",
        device="cpu",
        max_batch_images=8,
        queue_images=100,
        max_images_per_request=16,
        max_pixels=10_000,
        max_request_pixels=20_000,
        max_body_bytes=100_000,
        reload_s=0,
        log_level="error",
    )


@pytest.fixture(autouse=True)
def quiet() -> None:
    """The service's own log, errors only."""
    logs.configure("error", "auto")


@asynccontextmanager
async def running(settings: Settings, **changed: object) -> AsyncIterator[tuple[FastAPI, httpx.AsyncClient]]:
    """An app with its models read, and a client that speaks to it; some settings are other than those of the others."""
    app = create_app(Settings.model_validate(settings.model_dump() | changed))
    await app.state.parts.registry.refresh()
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    hooks = {"response": [holds_no_traceback]}
    async with httpx.AsyncClient(transport=transport, base_url="http://latentd", event_hooks=hooks) as client:
        yield app, client
        check_gauges(app.state.parts.metrics.text().decode(), under_way=0)
    app.state.parts.registry.device.close()


async def holds_no_traceback(response: httpx.Response) -> None:
    """No answer to any test may hold one."""
    assert b"Traceback" not in await response.aread()


@pytest.fixture
async def service(settings: Settings) -> AsyncIterator[tuple[FastAPI, httpx.AsyncClient]]:
    """The app as it is for most tests."""
    async with running(settings) as service:
        yield service


@pytest.fixture
def app(service: tuple[FastAPI, httpx.AsyncClient]) -> FastAPI:
    """The app with its models read."""
    return service[0]


@pytest.fixture
def client(service: tuple[FastAPI, httpx.AsyncClient]) -> httpx.AsyncClient:
    """Speaks HTTP to the app."""
    return service[1]


@pytest.fixture
async def unharmed(client: httpx.AsyncClient) -> AsyncIterator[None]:
    """After the test the service is as it was."""
    yield
    await check_unharmed(client)


async def check_unharmed(client: httpx.AsyncClient) -> None:
    """It is ready, and idle but for this question."""
    check_gauges((await client.get("/metrics")).text, under_way=1)
    assert (await client.get("/readyz")).status_code == 200


def check_gauges(metrics: str, *, under_way: int) -> None:
    """No other requests are under way than these, and no images wait; whatever was done to the service before."""
    assert f"latentd_requests_in_flight {under_way:.1f}" in metrics
    assert set(re.findall(r"(?m)^latentd_queue_images\{.*\} (\S+)$", metrics)) <= {"0.0"}
