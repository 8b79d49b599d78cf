"""Probes, metrics, the list of models and the start page."""

import re

import httpx
import pytest
from fastapi import FastAPI

from model_store import Store
from service.app import create_app
from service.settings import Settings

from ...conftest import make_model
from ..conftest import running
from ..wire import picture

pytestmark = pytest.mark.anyio

PNG = {"Content-Type": "image/png"}


async def test_service_is_starting_until_its_models_are_read(settings: Settings) -> None:
    """/readyz answers 503 with Retry-After, and /livez 200."""
    transport = httpx.ASGITransport(create_app(settings))
    async with httpx.AsyncClient(transport=transport, base_url="http://latentd") as client:
        ready, alive, sample = [await client.get(path) for path in ("/readyz", "/livez", "/v1/sample")]

    assert (ready.status_code, ready.headers["retry-after"]) == (503, "1")
    assert sample.status_code == 503
    assert sample.json()["type"] == "urn:latentd:problem:starting"
    assert alive.status_code == 200


async def test_ready_service_says_so(client: httpx.AsyncClient) -> None:
    """/readyz says ready, and /healthz lists the models that are served."""
    assert (await client.get("/readyz")).json() == {"status": "ready"}
    assert (await client.get("/healthz")).json() == {
        "status": "ready",
        "reason": None,
        "warnings": [],
        "device": "cpu",
        "models": ["colour@1", "grey@1"],
        "waiting_images": 0,
    }


async def test_service_without_its_default_model_tells_the_reason(
    app: FastAPI, client: httpx.AsyncClient, store: Store
) -> None:
    """Probes and requests that name no model receive the reason, which does not tell the path of the store."""
    (store.root / "grey").rename(store.root / ".grey")
    await app.state.parts.registry.refresh()
    ready, health, sample = [await client.get(path) for path in ("/readyz", "/healthz", "/v1/sample")]

    reason = "The default model grey is not in the store, which has colour@1; publish it, or choose another default."
    assert (ready.status_code, ready.json()["detail"], ready.headers["retry-after"]) == (503, reason, "10")
    assert (health.json()["status"], health.json()["reason"]) == ("not serving", reason)
    assert (sample.status_code, sample.json()["detail"]) == (404, reason)
    assert (await client.get("/v1/models/colour/sample")).status_code == 200


async def test_folders_that_are_not_versions_are_listed_as_refused(
    app: FastAPI, client: httpx.AsyncClient, store: Store
) -> None:
    """The list gives the reason, so that an operator need not read the log."""
    (store.root / "colour" / "1").rename(store.root / "colour" / "01")
    await app.state.parts.registry.refresh()

    assert (await client.get("/v1/models")).json()["refused"] == [
        {
            "model": "colour",
            "version": None,
            "reason": "colour/01: '01' is not a version: rename the folder to a whole number, such as 1",
        }
    ]


async def test_draining_service_is_not_ready_but_still_answers(app: FastAPI, client: httpx.AsyncClient) -> None:
    """Requests that the balancer sends before it notices are still answered."""
    app.state.parts.lifecycle.drain()

    assert (await client.get("/readyz")).status_code == 503
    assert (await client.get("/healthz")).json()["status"] == "draining"
    assert (await client.get("/v1/sample")).status_code == 200


async def test_models_are_listed_with_the_default_one_marked(client: httpx.AsyncClient) -> None:
    """The list has shapes and sizes, so that a client knows what to send."""
    models = {entry["model"]: entry for entry in (await client.get("/v1/models")).json()["models"]}

    assert models.keys() == {"colour", "grey"}
    assert models["grey"]["is_default"]
    assert not models["colour"]["is_default"]
    assert (models["colour"]["image_shape"], models["colour"]["latent_shape"]) == ([3, 8, 8], [2, 4, 4])
    assert models["colour"]["latent_space"] == "colour"
    assert models["colour"]["limits"] == {
        "images": 16,
        "pixels": 20_000,
        "picture_pixels": 10_000,
        "body_bytes": 100_000,
    }


async def test_card_is_the_one_in_the_store(client: httpx.AsyncClient, store: Store) -> None:
    """The card has every metric with its protocol."""
    answer = (await client.get("/v1/models/grey")).json()

    assert (answer["model"], answer["version"]) == ("grey", 1)
    assert answer["card"] == store.card(store.resolve("grey")).model_dump(mode="json")


async def test_new_version_is_served_after_a_refresh(app: FastAPI, client: httpx.AsyncClient, store: Store) -> None:
    """No restart is needed, and a request can still pin the old version."""
    old = await client.get("/v1/models/grey/sample?seed=7")
    store.publish("grey", make_model(seed=1))
    await app.state.parts.registry.refresh()
    new = await client.get("/v1/models/grey/sample?seed=7")
    pinned = await client.get("/v1/models/grey@1/sample?seed=7")

    assert (old.headers["x-model"], new.headers["x-model"]) == ("grey@1", "grey@2")
    assert new.content != old.content
    assert pinned.content == old.content


def value(metrics: str, line: str) -> float:
    """The number at the end of a line of the exposition format."""
    match = re.search(rf"^{re.escape(line)} (\S+)$", metrics, re.MULTILINE)
    assert match, f"no line {line}"
    return float(match[1])


async def test_metrics_count_requests_batches_and_where_time_goes(client: httpx.AsyncClient) -> None:
    """Requests by route, model and code; batches by images; time by stage."""
    await client.get("/v1/sample?n=4")
    await client.post("/v1/models/grey/reconstruct", content=picture(), headers=PNG)
    await client.get("/v1/sample?n=0")
    metrics = (await client.get("/metrics")).text

    assert value(metrics, 'latentd_requests_total{code="200",model="grey@1",route="/sample"}') == 1
    assert value(metrics, 'latentd_requests_total{code="422",model="grey@1",route="/sample"}') == 1
    assert value(metrics, 'latentd_requests_total{code="200",model="grey@1",route="/reconstruct"}') == 1
    assert value(metrics, 'latentd_batch_images_sum{forward_pass="render"}') == 5
    assert value(metrics, 'latentd_batch_images_sum{forward_pass="encode"}') == 1
    assert value(metrics, 'latentd_queue_images{model="grey@1"}') == 0
    assert value(metrics, "latentd_requests_in_flight") == 1
    for stage, count in (("read", 1), ("queue", 2), ("compute", 2), ("write", 2)):
        assert value(metrics, f'latentd_stage_seconds_count{{stage="{stage}"}}') == count


async def test_metrics_forget_versions_that_are_served_no_longer(
    app: FastAPI, client: httpx.AsyncClient, store: Store
) -> None:
    """The counts of other models stay."""
    for _ in range(5):
        await client.get("/v1/models/grey/sample")
        await client.get("/v1/models/colour/sample")
        store.publish("grey", make_model())
        await app.state.parts.registry.refresh()
    await app.state.parts.registry.refresh()
    metrics = (await client.get("/metrics")).text

    assert set(re.findall(r'model="(grey@\d+)"', metrics)) == {"grey@4", "grey@5", "grey@6"}
    assert value(metrics, 'latentd_requests_total{code="200",model="colour@1",route="/sample"}') == 5


@pytest.mark.usefixtures("unharmed")
async def test_labels_are_never_what_a_caller_made_up(client: httpx.AsyncClient) -> None:
    """A thousand invented paths and models make two lines."""
    for number in range(500):
        await client.get(f"/made/up/{number}")
        await client.get(f"/v1/models/madeup{number}/sample")
    metrics = (await client.get("/metrics")).text

    assert "made" not in metrics
    assert value(metrics, 'latentd_requests_total{code="404",model="",route="none"}') == 500
    assert value(metrics, 'latentd_requests_total{code="404",model="",route="/sample"}') == 500


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("abc-123_X", True),
        ("a" * 64, True),
        ("a" * 65, False),
        ("a b", False),
        ("a\tb", False),
        ("", False),
        ("é", False),
    ],
)
@pytest.mark.usefixtures("unharmed")
async def test_request_id_is_taken_if_it_is_harmless(client: httpx.AsyncClient, given: str, kept: bool) -> None:
    """Any other id is replaced by a new one, so that clients cannot write into the log."""
    response = await client.get("/livez", headers=[(b"X-Request-Id", given.encode())])

    assert (response.headers["x-request-id"] == given) == kept
    assert re.fullmatch(r"[A-Za-z0-9_-]{1,64}", response.headers["x-request-id"])


@pytest.mark.parametrize("path", ["/readyz", "/v1/models", "/v1/models/grey@1/sample?seed=7"])
async def test_head_has_the_headers_of_get(client: httpx.AsyncClient, path: str) -> None:
    """A cache or a balancer may send either method."""
    got, probed = await client.get(path), await client.head(path)
    own = {"x-request-id", "server-timing", "date"}  # each request's

    assert probed.status_code == got.status_code == 200
    assert {name: probed.headers[name] for name in probed.headers if name not in own} == {
        name: got.headers[name] for name in got.headers if name not in own
    }


async def test_metrics_have_the_type_of_prometheus(client: httpx.AsyncClient) -> None:
    """HEAD tells the same."""
    for method in ("GET", "HEAD"):
        response = await client.request(method, "/metrics")
        assert (response.status_code, response.headers["content-type"]) == (
            200, "text/plain; version=0.0.4; charset=utf-8",
        )  # fmt: skip


async def test_page_links_everything_and_shows_each_model(client: httpx.AsyncClient) -> None:
    """Every link on the page leads to an answer."""
    page = (await client.get("/")).text
    links = {link.replace("&amp;", "&") for link in re.findall(r'(?:href|src)="(?!data:)([^"]+)"', page)}

    assert {"docs", "openapi.json", "v1/models", "healthz", "readyz", "metrics"} <= links
    assert "v1/models/grey@1/sample?n=16&seed=7&format=png" in links
    assert {(await client.get(f"/{link}")).status_code for link in links} == {200}


async def test_page_marks_the_default_model(store: Store, settings: Settings) -> None:
    """Its commands mean this model. A version that is older than the default one is not marked."""
    store.publish("grey", make_model())

    async with running(settings, default_model="grey") as (_, client):
        page = (await client.get("/")).text

    assert page.count("the default model; ") == 1
    assert page.index("grey@1</a>") < page.index("grey@2</a></h2><p>the default model; images")


async def test_page_shows_the_warnings_of_a_card(store: Store, settings: Settings) -> None:
    """Warnings are shown as text, even if they contain HTML. A model without warnings shows none."""
    store.publish("useless", make_model(), warnings=["kl_nats is <b>0</b>"])

    async with running(settings) as (_, client):
        page = (await client.get("/")).text

    assert page.count("Warning: ") == 1
    assert '<p class="warning">Warning: kl_nats is &lt;b&gt;0&lt;/b&gt;</p>' in page


async def test_docs_need_no_other_host(client: httpx.AsyncClient) -> None:
    """The docs work without access to other hosts."""
    page = (await client.get("/docs")).text
    sources = re.findall(r'(?:href|src)="([^"]+)"', page)

    assert sources
    assert not any(":" in source for source in sources)
    assert {(await client.get(f"/{source}")).status_code for source in sources} == {200}
