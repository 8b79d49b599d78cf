"""What a replica says when Ray asks after its health: in process, without Ray's own processes."""

import asyncio
import os
from collections.abc import AsyncIterator, Sequence
from contextlib import suppress
from typing import Never, cast

import pytest
import torch

pytest.importorskip("ray.serve", reason="the extra `ray` is not installed")

from deploy.ray_app import Replica
from model_store import Store
from service.app import create_app
from service.compute.rows import Rows
from service.errors import DeviceLost
from service.http.state import AppState
from service.inference.served_model import BatchKey
from service.settings import Settings

pytestmark = pytest.mark.anyio

SOON_S = 5.0


class Known(Replica):
    """A replica whose app a test has made, with keys, which the check does not need."""

    def __init__(self, settings: Settings) -> None:
        self.app = create_app(settings)
        self.parts = cast(AppState, self.app.state.parts)
        self.registry = self.parts.registry


@pytest.fixture
async def starting(store: Store) -> AsyncIterator[Known]:
    """One that has not read its models."""
    settings = Settings(
        store=store.root,
        cache=os.devnull,
        device="cpu",
        api_keys="secret",
        queue_images=16,
        max_images_per_request=16,
    )
    replica = Known(settings)
    yield replica
    replica.registry.device.close()


@pytest.fixture
async def replica(starting: Known) -> Known:
    """One that has."""
    await starting.registry.refresh()
    return starting


def hold_up(replica: Known) -> list[str]:
    """From now on no computation of the default model ends; return the names of the forward passes that begin."""
    begun: list[str] = []

    async def never(key: BatchKey, payloads: object) -> Never:
        begun.append(key.forward_pass)
        await asyncio.Future[Never]()

    replica.registry.find(None).batcher.run = never
    return begun


async def test_healthy_replica_has_computed_an_image(replica: Known) -> None:
    """The model is asked, and not only whether the process is there."""
    batcher = replica.registry.find(None).batcher
    run = batcher.run
    operations: list[str] = []

    async def watched(key: BatchKey, payloads: Sequence[Rows]) -> Sequence[Rows | Exception]:
        operations.append(key.forward_pass)
        return await run(key, payloads)

    batcher.run = watched
    await replica.check_health()

    assert operations == ["decode"]


async def test_replica_that_starts_is_waited_for(starting: Known) -> None:
    """Ray gives up one whose first check fails, and sends nobody before it has passed."""
    check = asyncio.create_task(starting.check_health())
    done, _ = await asyncio.wait([check], timeout=0.3)
    await starting.registry.refresh()
    await asyncio.wait_for(check, SOON_S)

    assert not done


async def test_computation_that_does_not_end_is_noticed(replica: Known) -> None:
    """The check does not come back, and Ray's limit for it passes."""
    begun = hold_up(replica)
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(replica.check_health(), 0.3)

    assert begun == ["decode"]


async def test_lost_device_is_noticed(replica: Known) -> None:
    """What only a new process can put right."""

    def lose() -> None:
        raise torch.AcceleratorError("an illegal memory access was encountered")

    with suppress(DeviceLost):
        await replica.registry.device.call(lose)
    with pytest.raises(DeviceLost):
        await replica.check_health()


async def test_full_queue_is_no_illness(replica: Known) -> None:
    """Or Ray would take away replicas when they are needed most."""
    begun, model = hold_up(replica), replica.registry.find(None)
    computing = asyncio.create_task(model.forward("decode", (torch.zeros(1, 3),)))
    while not begun:
        await asyncio.sleep(0)
    waiting = asyncio.create_task(model.forward("decode", (torch.zeros(16, 3),)))
    while model.batcher.waiting_images != 16:
        await asyncio.sleep(0)
    await asyncio.wait_for(replica.check_health(), SOON_S)

    assert begun == ["decode"]
    computing.cancel()
    waiting.cancel()
