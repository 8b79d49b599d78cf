"""A device thread that hangs or dies is detected, its callers get an error, and another thread replaces it."""

import asyncio
import ctypes
import threading
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import httpx
import pytest
from fastapi import FastAPI

from model_store.vae.device import choose_device
from service.app import create_app
from service.compute import device as device_module
from service.compute.device import Device
from service.errors import DeviceHung
from service.http import lifecycle
from service.settings import Settings

pytestmark = pytest.mark.anyio

HANG_S = 3.0  # half of it is long enough to be seen, on a machine that has other things to do
SOON_S = 0.3


@pytest.fixture
async def device() -> AsyncIterator[Device]:
    """A CPU whose thread is abandoned after a few seconds, and watched."""
    async with watched(HANG_S) as device:
        yield device


@asynccontextmanager
async def watched(hang_s: float) -> AsyncIterator[Device]:
    """A CPU whose thread is abandoned after `hang_s` seconds."""
    device = Device(choose_device("cpu"), hang_s=hang_s)
    watching = asyncio.create_task(device.watch())
    yield device
    watching.cancel()
    device.close()


async def test_work_is_done_in_one_thread_in_order(device: Device) -> None:
    """All work is done in the same thread, which is not the caller's."""
    done: list[int] = []

    def work(number: int) -> threading.Thread:
        done.append(number)
        return threading.current_thread()

    threads = await asyncio.gather(*(device.call(work, number) for number in range(5)))

    assert done == list(range(5))
    assert len(set(threads)) == 1
    assert threads[0] is not threading.current_thread()


async def test_error_of_work_is_raised_in_its_caller(device: Device) -> None:
    """The caller gets the error, and the thread continues."""
    with pytest.raises(ZeroDivisionError):
        await device.call(lambda: 1 / 0)
    assert await device.call(lambda: 1) == 1


async def test_callers_of_a_thread_that_hangs_are_answered(device: Device) -> None:
    """The caller whose work had begun and the callers behind it get an error; the next one gets another thread."""
    end = threading.Event()
    stuck = [asyncio.create_task(device.call(end.wait)) for _ in range(3)]
    while not device.seems_to_hang:
        assert not any(caller.done() for caller in stuck)
        await asyncio.sleep(HANG_S / 50)
    errors = await asyncio.wait_for(asyncio.gather(*stuck, return_exceptions=True), timeout=10 * HANG_S)

    assert [type(error) for error in errors] == [DeviceHung] * 3
    assert not device.seems_to_hang
    assert await device.call(lambda: "alive") == "alive"
    end.set()


async def test_pause_of_the_whole_process_is_not_a_hang(device: Device) -> None:
    """A container may be paused, and a machine may sleep; the work goes on afterwards."""
    end = threading.Event()
    work = asyncio.create_task(device.call(end.wait))
    await asyncio.sleep(0)
    time.sleep(1.5 * HANG_S)  # the event loop stops, as in a pause
    await asyncio.sleep(2 * HANG_S / device_module.HANG_CHECKS)
    end.set()

    assert await work


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
async def test_callers_of_a_thread_that_dies_are_answered(device: Device) -> None:
    """The cause may be any exception, also one that Python raises in the thread."""
    thread = await device.call(threading.current_thread)
    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread.ident or 0), ctypes.py_object(SystemExit))

    with pytest.raises(DeviceHung):
        await asyncio.wait_for(device.call(lambda: "too late"), timeout=10 * HANG_S)
    assert await device.call(threading.current_thread) is not thread


async def test_reading_a_model_may_take_longer() -> None:
    """No caller waits for a model as for a batch."""
    end = threading.Event()
    asyncio.get_running_loop().call_later(3 * SOON_S, end.set)

    async with watched(SOON_S) as device:
        assert await device.prepare(end.wait)


async def test_reading_a_model_may_not_take_without_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """Later callers would wait behind a device that hangs while it prepares a model."""
    monkeypatch.setattr(device_module, "PREPARE_S", 4 * SOON_S)
    monkeypatch.setattr(device_module, "PATIENCE", 2)
    end = threading.Event()

    async with watched(SOON_S) as device:
        with pytest.raises(DeviceHung):
            await asyncio.wait_for(device.prepare(end.wait), timeout=20)
        assert await device.call(lambda: "alive") == "alive"
    end.set()


async def test_caller_who_leaves_is_not_waited_for(device: Device) -> None:
    """Work that had not begun is not done."""
    end, done = threading.Event(), threading.Event()
    first = asyncio.create_task(device.call(end.wait))
    second = asyncio.create_task(device.call(done.set))
    await asyncio.sleep(0.01)
    second.cancel()
    await asyncio.wait([second])
    end.set()
    await first
    await device.call(lambda: None)

    assert not done.is_set()


@pytest.fixture
async def impatient(settings: Settings) -> AsyncIterator[FastAPI]:
    """A service that abandons its thread after a few seconds, and has read its models."""
    app = create_app(settings.model_copy(update={"hang_s": HANG_S}))
    async with app.router.lifespan_context(app):
        while app.state.parts.registry.why_not_ready():
            await asyncio.sleep(0.01)
        yield app


async def compute(app: FastAPI, function: Callable[[], object]) -> None:
    """Replace the batches of the default model by a function that runs in the device's thread."""
    device = app.state.parts.registry.device

    async def run(key: object, payloads: object) -> object:
        return await device.call(function)

    app.state.parts.registry.find(None).batcher.run = run


async def test_service_answers_503_and_goes_on(impatient: FastAPI) -> None:
    """The service is not ready while the thread hangs, and ready afterwards; other requests are answered again."""
    end = threading.Event()
    batcher = impatient.state.parts.registry.find(None).batcher
    computing = batcher.run
    await compute(impatient, end.wait)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(impatient), base_url="http://latentd") as client:
        asked = asyncio.create_task(client.get("/v1/sample"))
        while (during := await client.get("/readyz")).is_success and not asked.done():
            await asyncio.sleep(HANG_S / 50)
        answer = await asked
        batcher.run = computing
        after, again = await client.get("/readyz"), await client.get("/v1/sample?n=8")
    end.set()

    assert (during.status_code, during.json()["type"]) == (503, "urn:latentd:problem:device-hung")
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
    assert (after.status_code, again.status_code) == (200, 200)


async def test_lost_device_wants_a_restart_after_a_while(
    app: FastAPI, client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Readiness fails at once, so that other replicas get the requests; liveness fails later."""
    app.state.parts.registry.device.lose()
    early = await client.get("/livez")
    monkeypatch.setattr(lifecycle, "GIVE_UP_S", 0.0)
    late = await client.get("/livez")

    assert (early.status_code, late.status_code) == (200, 500)
    assert late.json()["type"] == "urn:latentd:problem:needs-restart"
    assert (await client.get("/readyz")).status_code == 503
