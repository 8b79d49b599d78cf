"""`name@alias` in addresses: every endpoint takes it, and an alias that is moved loses no request."""

import asyncio
from collections import Counter

import httpx
import pytest
from fastapi import FastAPI

from model_store import ModelVersion, Store
from service.settings import Settings

from ...conftest import running
from ...wire import PNG, picture

pytestmark = pytest.mark.anyio

GREY_1, GREY_2 = ModelVersion("grey", 1), ModelVersion("grey", 2)


@pytest.fixture
async def aliased(app: FastAPI, store: Store) -> FastAPI:
    """The app, with two versions of grey; the alias stable means the first."""
    store.copy(GREY_1, store)
    store.set_alias(GREY_1, "stable")
    await app.state.parts.registry.refresh()
    return app


async def test_answer_names_the_version_and_not_the_alias(aliased: FastAPI, client: httpx.AsyncClient) -> None:
    """Operations and the card name grey@1, which answered."""
    encoded = await client.post("/v1/models/grey@stable/encode", content=picture(), headers=PNG)
    card = (await client.get("/v1/models/grey@stable")).json()

    assert (encoded.status_code, encoded.headers["x-model"]) == (200, "grey@1")
    assert (encoded.json()["model"], encoded.json()["version"]) == ("grey", 1)
    assert (card["model"], card["version"]) == ("grey", 1)


async def test_models_tell_their_aliases(aliased: FastAPI, client: httpx.AsyncClient) -> None:
    """Each version has a list, which is empty for most."""
    models = (await client.get("/v1/models")).json()["models"]

    assert [(entry["model"], entry["version"], entry["aliases"]) for entry in models] == [
        ("colour", 1, []),
        ("grey", 1, ["stable"]),
        ("grey", 2, []),
    ]


async def test_sample_of_an_alias_is_asked_for_again(aliased: FastAPI, client: httpx.AsyncClient) -> None:
    """The alias may be moved, so that no cache may keep its answer; the ETag is that of the version."""
    by_alias, pinned = [await client.get(f"/v1/models/grey@{end}/sample?seed=7") for end in ("stable", "1")]
    again = await client.get(
        "/v1/models/grey@stable/sample?seed=7", headers={"If-None-Match": by_alias.headers["etag"]}
    )

    assert by_alias.headers["cache-control"] == "public, no-cache"
    assert pinned.headers["cache-control"] == "public, max-age=31536000, immutable"
    assert by_alias.headers["etag"] == pinned.headers["etag"]
    assert (again.status_code, again.headers["cache-control"]) == (304, "public, no-cache")


async def test_held_sample_of_an_alias_is_replaced_when_the_alias_is_moved(
    aliased: FastAPI, client: httpx.AsyncClient, store: Store
) -> None:
    """The condition of the client names the answer of the version before."""
    address = "/v1/models/grey@stable/sample?seed=7"
    tag = (await client.get(address)).headers["etag"]
    store.set_alias(GREY_2, "stable")
    await aliased.state.parts.registry.refresh()

    answer = await client.get(address, headers={"If-None-Match": tag})
    assert (answer.status_code, answer.headers["x-model"]) == (200, "grey@2")


@pytest.mark.parametrize("reference", ["grey@nope", "grey@Stable", "grey@stable@1", "colour@stable", "grey@%73table2"])
async def test_alias_that_is_not_there_is_not_found(
    aliased: FastAPI, client: httpx.AsyncClient, reference: str
) -> None:
    """The problem says what a reference looks like, or which versions there are."""
    answer = await client.get(f"/v1/models/{reference}/sample")

    assert answer.status_code == 404
    assert answer.json()["type"] in ("urn:latentd:problem:model-not-found", "urn:latentd:problem:invalid-name")


async def test_alias_that_is_moved_under_load_loses_no_request(settings: Settings, store: Store) -> None:
    """Clients ask without a pause while the alias is moved to a new version and back to the old one."""
    store.set_alias(GREY_1, "stable")
    seen: Counter[tuple[int, str]] = Counter()
    async with running(settings, versions_per_model=1) as (app, client):
        moved = asyncio.Event()

        async def ask() -> None:
            answer = await client.get("/v1/models/grey@stable/sample")
            seen[answer.status_code, answer.headers.get("x-model", "")] += 1

        async def ask_without_a_pause() -> None:
            while not moved.is_set():
                await ask()

        callers = [asyncio.create_task(ask_without_a_pause()) for _ in range(4)]
        for _ in range(3):
            version = await asyncio.to_thread(store.copy, GREY_1, store)
            await asyncio.to_thread(store.set_alias, version, "stable")
            await app.state.parts.registry.refresh()
            await ask()
            await asyncio.to_thread(store.roll_back, "grey", "stable")
            await app.state.parts.registry.refresh()
        moved.set()
        await asyncio.gather(*callers)

    assert {status for status, _ in seen} == {200}
    assert {model for _, model in seen} == {"grey@1", "grey@2", "grey@3", "grey@4"}
