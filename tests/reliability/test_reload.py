"""Reloads under load: versions appear in the store and leave it, and no valid request fails."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from itertools import cycle, islice
from pathlib import Path
from statistics import median
from typing import Any

import httpx
import pytest

from model_store import ModelVersion, Store

from ..process import Process, unharmed
from .versions import SPOILT, Shelf, Spoil, unspoilt

pytestmark = pytest.mark.anyio

CALLERS = 4
RELOADS = 50
KEPT = 3  # versions of a model that are served
MEASUREMENTS = 5  # of which the median is taken
PLATEAU_MIB = 3  # growth allowed in the second half; it would be 5 if the models of that half were never freed


@asynccontextmanager
async def under_load(url: str, reference: str = "grey") -> AsyncIterator[Counter[tuple[int, str]]]:
    """Clients that send one request after the other; counts the answers by status and model."""
    seen: Counter[tuple[int, str]] = Counter()
    stop = asyncio.Event()

    async def ask() -> None:
        async with httpx.AsyncClient(base_url=url, timeout=30) as client:
            while not stop.is_set():
                answer = await client.get(f"/v1/models/{reference}/sample?n=2")
                seen[answer.status_code, answer.headers.get("x-model", "")] += 1

    callers = [asyncio.create_task(ask()) for _ in range(CALLERS)]
    try:
        yield seen
    finally:
        stop.set()
        await asyncio.gather(*callers)


async def until(holds: Callable[[], object], what: str) -> None:
    """Wait until a condition holds, for at most ten seconds."""
    for _ in range(500):
        if holds():
            return
        await asyncio.sleep(0.02)
    raise AssertionError(what)


def resident_mib(process: int) -> float:
    """The resident memory of a process, in MiB."""
    with open(f"/proc/{process}/statm", encoding="ascii") as file:
        return int(file.read().split()[1]) * 4096 / 2**20


@pytest.mark.timeout(400)  # 25 replacements, each up to ten seconds on a busy machine
async def test_fifty_reloads_lose_no_request(started: list[Process], store: Store, tmp_path: Path) -> None:
    """Good versions take over, spoilt ones are refused with their reason, and a good one after them is picked up."""
    process = await asyncio.to_thread(Process, store.root, "--reload-s", "0.05", MALLOC_ARENA_MAX="1")
    started.append(process)
    process.collect_log()
    shelf, good, memory = Shelf(store, "grey", tmp_path / "workshop"), {"grey@1"}, []
    await asyncio.to_thread(process.wait_until_ready)
    async with httpx.AsyncClient(base_url=process.url) as client:
        async with under_load(process.url) as seen:
            for turn, spoil in enumerate(islice(cycle(SPOILT), RELOADS // 2)):
                good.add(await exchanged(shelf, spoil, seen, is_removed=turn % 5 == 4))
                memory.append(resident_mib(process.pid))
        models = await told(client, lambda models: numbers(models) == served(shelf, good))
        metrics = (await client.get("/metrics")).text
    left = await asyncio.to_thread(unharmed, process)

    assert left == []
    assert {status for status, _ in seen} == {200}
    assert {model for _, model in seen} <= good
    assert numbers(models) == served(shelf, good)
    assert {refused["version"] for refused in models["refused"]} == spoilt(shelf, good)
    assert all(refused["reason"] and str(store.root) not in refused["reason"] for refused in models["refused"])
    assert f'latentd_versions_refused_total{{model="grey"}} {RELOADS // 2}.0' in metrics
    assert (
        median(memory[-MEASUREMENTS:]) - median(memory[len(memory) // 2 - MEASUREMENTS // 2 :][:MEASUREMENTS])
        < PLATEAU_MIB
    )


async def exchanged(shelf: Shelf, spoil: Spoil, seen: Counter[tuple[int, str]], *, is_removed: bool) -> str:
    """Add a spoilt version and a good one, wait until clients get the good one, and perhaps remove it."""
    shelf.add(spoil)
    good = f"grey@{shelf.add(unspoilt)}"
    await until(lambda: (200, good) in seen, "a good version is not picked up")
    for old in shelf.numbers()[: -3 * KEPT]:
        shelf.remove(old)
    if is_removed:
        shelf.remove(shelf.newest())
    return good


async def told(client: httpx.AsyncClient, holds: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
    """The models served and refused, as soon as they fulfil a condition, or else after ten seconds."""
    for _ in range(100):
        models: dict[str, Any] = (await client.get("/v1/models")).json()
        if holds(models):
            break
        await asyncio.sleep(0.1)
    return models


def numbers(models: dict[str, Any]) -> list[int]:
    """The version numbers of the model that are served."""
    return [summary["version"] for summary in models["models"] if summary["model"] == "grey"]


def spoilt(shelf: Shelf, good: set[str]) -> set[int]:
    """The spoilt versions that are still in the store."""
    return {number for number in shelf.numbers() if f"grey@{number}" not in good}


def served(shelf: Shelf, good: set[str]) -> list[int]:
    """The newest good versions."""
    return [number for number in shelf.numbers() if f"grey@{number}" in good][-KEPT:]


@pytest.mark.parametrize("workers", [1, 2])
async def test_alias_that_is_moved_loses_no_request(started: list[Process], store: Store, workers: int) -> None:
    """The service follows it by itself, to each new version and back to the first."""
    first = ModelVersion("grey", 1)
    store.set_alias(first, "stable")
    flags = ("--reload-s", "0.05", "--versions-per-model", "1", "--workers", str(workers))
    process = await asyncio.to_thread(Process, store.root, *flags)
    started.append(process)
    process.collect_log()
    await asyncio.to_thread(process.wait_until_ready)
    async with under_load(process.url, "grey@stable") as seen:
        for _ in range(5):
            version = await asyncio.to_thread(store.copy, first, store)
            await asyncio.to_thread(store.set_alias, version, "stable")
            await until(partial(seen.__contains__, (200, str(version))), "the alias is not followed")
            await asyncio.to_thread(store.roll_back, "grey", "stable")
            seen.pop((200, "grey@1"), None)
            await until(partial(seen.__contains__, (200, "grey@1")), "the alias is not followed back")

    assert {status for status, _ in seen} == {200}
    assert await asyncio.to_thread(unharmed, process) == []


async def test_version_that_is_completed_later_is_picked_up(
    started: list[Process], store: Store, tmp_path: Path
) -> None:
    """An operator may copy its files one by one."""
    process = await asyncio.to_thread(Process, store.root, "--reload-s", "0.05")
    started.append(process)
    shelf = Shelf(store, "grey", tmp_path / "workshop")
    kept: dict[str, bytes] = {}

    def hold_back(folder: Path) -> None:
        kept["weights"] = (folder / "weights.safetensors").read_bytes()
        (folder / "weights.safetensors").unlink()

    await asyncio.to_thread(process.wait_for, "ready")  # else it would be the first version that is served
    number = shelf.add(hold_back)
    refused = await asyncio.to_thread(process.wait_for, "version refused")
    (store.root / "grey" / str(number) / "weights.safetensors").write_bytes(kept["weights"])
    serving = await asyncio.to_thread(process.wait_for, "serving")

    assert refused["model"] == serving["model"] == f"grey@{number}"
    assert await asyncio.to_thread(unharmed, process) == []
