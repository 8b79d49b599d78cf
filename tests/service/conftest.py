"""The service in process: its app on a store of small models, and a client that speaks to it without a socket."""

import io
from collections.abc import AsyncIterator, Iterator

import httpx
import pytest
from fastapi import FastAPI
from PIL import Image

from model_store import Store
from service import logs
from service.app import create_app
from service.settings import Settings

from .process import Process


@pytest.fixture
def settings(store: Store) -> Settings:
    """Small limits, and nothing of the environment."""
    return Settings(
        store=store.root,
        cache=store.root.parent / "cache",
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
def quiet(settings: Settings) -> None:
    """The service's own log, errors only."""
    logs.configure(settings)


@pytest.fixture
async def app(settings: Settings) -> AsyncIterator[FastAPI]:
    """The app with its models read."""
    app = create_app(settings)
    await app.state.parts.engine.registry.refresh()
    yield app
    app.state.parts.engine.registry.device.close()


@pytest.fixture
async def client(app: FastAPI) -> AsyncIterator[httpx.AsyncClient]:
    """Speaks HTTP to the app."""
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://latentd") as client:
        yield client


@pytest.fixture
def started(store: Store) -> Iterator[list[Process]]:
    """Processes of a test; whatever still runs at its end is killed."""
    processes: list[Process] = []
    yield processes
    for process in processes:
        process.process.kill()
        process.end()


def picture(size: tuple[int, int] = (8, 8), mode: str = "L", colour: object = None, kind: str = "PNG") -> bytes:
    """An encoded picture: a grey ramp, or all of one colour."""
    image = Image.linear_gradient("L").resize(size).convert(mode) if colour is None else Image.new(mode, size, colour)
    buffer = io.BytesIO()
    image.save(buffer, kind)
    return buffer.getvalue()
