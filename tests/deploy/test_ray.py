"""The app on Ray Serve with two replicas on two nodes; a replica dies, is replaced, or stops answering."""

import asyncio
import logging
import os
import time
from collections.abc import Iterator

import httpx
import pytest

pytest.importorskip("ray.serve", reason="the extra `ray` is not installed")

from model_store import Store
from service.app import create_app
from service.settings import Settings

from ..conftest import GREY, make_model
from ..service.wire import picture
from .cluster import Service, cluster, stopped
from .load import CALLERS, load, lost, more

pytestmark = [pytest.mark.slow, pytest.mark.anyio]

PNG = {"Content-Type": "image/png"}
SETTINGS = {"cache": os.devnull, "device": "cpu", "default_model": "grey@1", "hang_s": "4"}
log = logging.getLogger(__name__)  # measurements: pytest tests/deploy --log-cli-level=info


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """A store with `grey@1` and `grey@2`."""
    store = Store(tmp_path_factory.mktemp("ray") / "store")
    store.publish("grey", make_model(GREY))
    store.publish("grey", make_model(GREY, seed=1))
    return store


@pytest.fixture(scope="module")
def service(store: Store) -> Iterator[Service]:
    """The service with two replicas, on a cluster of two nodes."""
    with cluster() as url:
        service = Service(url, store=str(store.root), **SETTINGS)
        service.deploy()
        yield service


async def test_replicas_on_two_nodes_share_the_load(service: Service) -> None:
    """About evenly: a fair coin tossed 500 times shows one side less than 125 times with probability 10^-29."""
    async with load(service.url) as seen:
        await more(seen, 500)
    counts = service.answered()
    log.info("%d answers in %.1f s, by replica %s", len(seen), seen[-1].at - seen[0].at, counts)

    assert lost(seen) == []
    assert len(set(service.replicas.values())) == 2
    assert counts.keys() == service.replicas.keys()
    assert sum(counts.values()) == len(seen)
    assert min(counts.values()) > len(seen) / 4


async def test_bodies_and_answers_pass_as_they_are(service: Service, store: Store) -> None:
    """The answer to a PNG is an npy file with the same bytes that the app itself answers."""
    app = create_app(Settings(store=store.root, cache=os.devnull, device="cpu", default_model="grey@1"))
    await app.state.parts.registry.refresh()
    answers = []
    for transport in (httpx.ASGITransport(app), None):
        async with httpx.AsyncClient(transport=transport, base_url=service.url) as client:
            answers.append(await client.post("/v1/encode?format=npy", content=picture(), headers=PNG))
    app.state.parts.registry.device.close()

    assert [answer.status_code for answer in answers] == [200, 200]
    assert answers[0].content[:6] == b"\x93NUMPY"
    assert answers[0].content == answers[1].content


async def test_request_without_content_type_gets_the_apps_own_answer(service: Service) -> None:
    """Ray's proxy does not add a Content-Type, and does not refuse a request without one."""
    answer = httpx.post(f"{service.url}/v1/encode", content=picture())

    assert "content-type" not in answer.request.headers
    assert answer.status_code == 415
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["type"] == "urn:latentd:problem:unsupported-media-type"


async def test_killed_replica_loses_only_its_own_requests(service: Service) -> None:
    """Each caller waits for one request, so at most one of each is lost; the other replica answers meanwhile."""
    async with load(service.url, "/v1/sample?n=32") as seen:
        await more(seen, 200)
        killed, victim = time.monotonic(), service.kill()
        seconds = await asyncio.to_thread(service.wait_until_replaced, victim)
        await more(seen, 200)
    when = [(got.status, round(got.at - killed, 3)) for got in lost(seen)]
    log.info("%d sent, lost %s, two replicas again after %.1f s", len(seen), when, seconds)

    assert len(lost(seen)) <= CALLERS
    assert all(got.at < killed + 5 for got in lost(seen))
    assert min(service.answered().values()) > 0


async def test_rolling_update_loses_no_request(service: Service) -> None:
    """When a setting changes, all replicas are replaced, and callers notice only the other model."""
    before = service.replicas
    async with load(service.url) as seen:
        await more(seen, 200)
        began = time.monotonic()
        await asyncio.to_thread(service.deploy, default_model="grey@2")
        updated = time.monotonic()
        await more(seen, 200)
    when = [(got.status, round(got.at - began, 3)) for got in lost(seen)]
    log.info("%d sent, lost %s, updated after %.1f s", len(seen), when, updated - began)

    assert lost(seen) == []
    assert before.keys().isdisjoint(service.replicas)
    assert {got.model for got in seen[:200]} == {"grey@1"}
    assert {got.model for got in seen[-100:]} == {"grey@2"}


async def test_full_queue_is_429_with_a_whole_number_of_seconds(service: Service) -> None:
    """The app refuses before Ray does, and requests that wait are answered."""
    service.deploy(queue_images="16", max_images_per_request="16", max_batch_images="1")
    async with load(service.url, "/v1/sample?n=16", callers=32) as seen:
        await more(seen, 500)
    refused = [got for got in seen if got.status == 429]
    log.info("%d sent, %d refused", len(seen), len(refused))

    assert {got.status for got in seen} == {200, 429}
    assert {got.headers["content-type"] for got in refused} == {"application/problem+json"}
    assert all(int(got.headers["retry-after"]) >= 1 for got in refused)


async def test_replica_that_does_not_answer_is_replaced(service: Service) -> None:
    """The replica's process is stopped; a health check that does not return has failed."""
    service.deploy(timeout_s="1", hang_s="2")
    silent = max(service.replicas)
    with stopped(silent):
        seconds = await asyncio.to_thread(service.wait_until_replaced, silent)
    log.info("replaced after %.1f s", seconds)
    async with load(service.url) as seen:
        await more(seen, 100)

    assert lost(seen) == []
    assert min(service.answered().values()) > 0
