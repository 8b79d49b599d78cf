"""The service in process: its app with small models, and a client without a socket."""

import os
import re
import resource
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest
from fastapi import FastAPI

from model_store import Store
from service.app import create_app
from service.settings import Settings
from service.telemetry import logs, scrapes


@pytest.fixture(scope="session")
def plans(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One cache of batch plans for all tests, so that most warm-ups are short: each would take 0.1 s."""
    return tmp_path_factory.mktemp("plans")


@pytest.fixture
def settings(store: Store, plans: Path) -> Settings:
    """Small limits, and no setting of the environment."""
    return Settings(
        store=store.root,
        cache=plans,
        default_model="grey",
        hosts=("latentd",),  # of the client below
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
def scraped_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """The metrics of an app in process are made at each request for them."""
    monkeypatch.setattr(scrapes, "EVERY_S", 0.0)


@pytest.fixture(autouse=True)
def quiet() -> None:
    """The service logs errors only."""
    logs.configure("error", "auto")


@pytest.fixture
def full_table() -> Iterator[None]:
    """The process may not open another file."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    lowest_free = os.open(os.devnull, os.O_RDONLY)
    os.close(lowest_free)
    resource.setrlimit(resource.RLIMIT_NOFILE, (lowest_free, hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@asynccontextmanager
async def running(settings: Settings, **changed: object) -> AsyncIterator[tuple[FastAPI, httpx.AsyncClient]]:
    """An app that has read its models, and its client; `changed` settings replace the given ones."""
    app = create_app(Settings.model_validate(settings.model_dump() | changed))
    await app.state.parts.registry.refresh()
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    hooks = {"response": [holds_no_traceback]}
    async with httpx.AsyncClient(transport=transport, base_url="http://latentd", event_hooks=hooks) as client:
        yield app, client
        check_gauges(app.state.parts.metrics.text().decode(), under_way=0)
        assert app.state.parts.body_memory.taken == app.state.parts.answer_memory.taken == 0
    app.state.parts.registry.device.close()
    app.state.parts.processes.close()


async def holds_no_traceback(response: httpx.Response) -> None:
    """Check that an answer has no traceback. Every answer to every test is checked."""
    assert b"Traceback" not in await response.aread()


@pytest.fixture
async def service(settings: Settings) -> AsyncIterator[tuple[FastAPI, httpx.AsyncClient]]:
    """The app and its client, with the settings of most tests."""
    async with running(settings) as service:
        yield service


@pytest.fixture
def app(service: tuple[FastAPI, httpx.AsyncClient]) -> FastAPI:
    """The app, which has read its models."""
    return service[0]


@pytest.fixture
def client(service: tuple[FastAPI, httpx.AsyncClient]) -> httpx.AsyncClient:
    """The client of the app."""
    return service[1]


@pytest.fixture
async def unharmed(client: httpx.AsyncClient) -> AsyncIterator[None]:
    """After the test, check that the service is as it was before."""
    yield
    await check_unharmed(client)


async def check_unharmed(client: httpx.AsyncClient, key: str = "none") -> None:
    """Check that the service is ready, and has no request under way but this one."""
    check_gauges((await client.get("/metrics", headers={"Authorization": f"Bearer {key}"})).text, under_way=1)
    assert (await client.get("/readyz")).status_code == 200


def check_gauges(metrics: str, *, under_way: int) -> None:
    """Check that only `under_way` requests are in flight and no images wait, after all that a test has done."""
    assert f"latentd_requests_in_flight {under_way:.1f}" in metrics
    assert set(re.findall(r"(?m)^latentd_queue_images\{.*\} (\S+)$", metrics)) <= {"0.0"}
