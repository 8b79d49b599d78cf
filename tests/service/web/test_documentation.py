"""The page of the API and its text come from memory, and making the text holds up no other request."""

import asyncio
import threading

import httpx
import pytest
from fastapi import FastAPI

from service.app import prepare_app
from service.settings import Settings
from service.web import documentation

pytestmark = pytest.mark.anyio

DOCUMENTS = ["/openapi.json", *(f"/static-offline-docs/{name}" for name in ("swagger-ui-bundle.js", "swagger-ui.css"))]


async def test_no_file_is_opened_for_a_page(client: httpx.AsyncClient, request: pytest.FixtureRequest) -> None:
    """A flood of connections may have taken all descriptors: the files of /docs were 500 then."""
    paths = ["/", "/docs", *DOCUMENTS, "/livez", "/readyz", "/healthz", "/metrics", "/v1/models", "/v1/sample", "/none"]
    await client.get("/openapi.json")
    request.getfixturevalue("full_table")

    assert {path: (await client.get(path)).status_code for path in paths} == {
        path: 404 if path == "/none" else 200 for path in paths
    }


@pytest.mark.parametrize("path", DOCUMENTS)
async def test_document_that_the_client_holds_is_not_sent_again(client: httpx.AsyncClient, path: str) -> None:
    """The tag may stand on the second line of a list."""
    tag = (await client.get(path)).headers["etag"]
    held = [("If-None-Match", '"other"'), ("If-None-Match", tag)]
    answers = [await client.request(method, path, headers=held) for method in ("GET", "HEAD")]

    assert [(answer.status_code, answer.content) for answer in answers] == [(304, b"")] * 2


async def test_other_requests_are_answered_while_the_openapi_is_made(
    app: FastAPI, client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The text takes half a second, and is made once for all that ask."""
    may_end, begun, make = threading.Event(), [], documentation.make_openapi

    def make_slowly(app: FastAPI) -> None:
        begun.append(app)
        may_end.wait()
        make(app)

    monkeypatch.setattr(documentation, "make_openapi", make_slowly)
    asking = [asyncio.create_task(client.get("/openapi.json")) for _ in range(5)]
    while not begun:
        await asyncio.sleep(0)
    alive = await client.get("/livez")
    may_end.set()
    answers = await asyncio.gather(*asking)

    assert alive.status_code == 200
    assert begun == [app]
    assert [answer.json()["openapi"][:2] for answer in answers] == ["3."] * 5


async def test_openapi_is_made_again_after_a_failure(
    client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A lack of memory passes."""

    def fail(_: FastAPI) -> None:
        raise MemoryError

    with monkeypatch.context() as failing:
        failing.setattr(documentation, "make_openapi", fail)
        refused = await client.get("/openapi.json")

    assert (refused.status_code, (await client.get("/openapi.json")).status_code) == (503, 200)


async def test_openapi_is_there_before_a_client_asks(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """The thread that makes it would slow down all requests at that moment."""
    app = prepare_app(settings)
    monkeypatch.delattr(documentation, "make_openapi")
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://localhost") as client:
        answer = await client.get("/openapi.json")

    assert answer.json()["info"]["title"] == "latentd"
