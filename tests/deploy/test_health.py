"""The health check of a replica, in this process and without Ray's processes."""

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


class OfflineReplica(Replica):
    """A replica with an app that a test has made; the app needs keys, and the check has none."""

    def __init__(self, settings: Settings) -> None:
        self.app = create_app(settings)
        self.parts = cast(AppState, self.app.state.parts)
        self.registry = self.parts.registry


@pytest.fixture
async def starting(store: Store) -> AsyncIterator[OfflineReplica]:
    """A replica that has not read its models."""
    settings = Settings(
        store=store.root,
        cache=os.devnull,
        device="cpu",
        api_keys="secret",
        queue_images=16,
        max_images_per_request=16,
    )
    replica = OfflineReplica(settings)
    yield replica
    replica.registry.device.close()


@pytest.fixture
async def replica(starting: OfflineReplica) -> OfflineReplica:
    """A replica that has read its models."""
    await starting.registry.refresh()
    return starting


def hold_up(replica: OfflineReplica) -> list[str]:
    """From now on no computation of the default model ends; return the names of the forward passes that begin."""
    begun: list[str] = []

    async def never(key: BatchKey, payloads: object) -> Never:
        begun.append(key.forward_pass)
        await asyncio.Future[Never]()

    replica.registry.find(None).batcher.run = never
    return begun


async def test_healthy_replica_has_computed_an_image(replica: OfflineReplica) -> None:
    """The check asks the model, and not only whether the process is there."""
    batcher = replica.registry.find(None).batcher
    run = batcher.run
    operations: list[str] = []

    async def watched(key: BatchKey, payloads: Sequence[Rows]) -> Sequence[Rows | Exception]:
        operations.append(key.forward_pass)
        return await run(key, payloads)

    batcher.run = watched
    await replica.check_health()

    assert operations == ["decode"]


async def test_replica_that_starts_is_waited_for(starting: OfflineReplica) -> None:
    """Ray would give up a replica whose first check fails; it sends requests only after a check has passed."""
    check = asyncio.create_task(starting.check_health())
    done, _ = await asyncio.wait([check], timeout=0.3)
    await starting.registry.refresh()
    await asyncio.wait_for(check, SOON_S)

    assert not done


async def test_computation_that_does_not_end_is_noticed(replica: OfflineReplica) -> None:
    """The check does not return, so that it exceeds Ray's time limit."""
    begun = hold_up(replica)
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(replica.check_health(), 0.3)

    assert begun == ["decode"]


async def test_lost_device_is_noticed(replica: OfflineReplica) -> None:
    """The probe fails, since only a new process can help."""

    def lose() -> None:
        raise torch.AcceleratorError("an illegal memory access was encountered")

    with suppress(DeviceLost):
        await replica.registry.device.call(lose)
    with pytest.raises(DeviceLost):
        await replica.check_health()


async def test_replica_with_a_full_queue_is_healthy(replica: OfflineReplica) -> None:
    """If a full queue were unhealthy, Ray would remove replicas under the highest load."""
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
