"""The router answers endpoints at every address they are mounted at, and passes every other request on."""

import re
from collections.abc import AsyncIterator
from typing import Annotated

import httpx
import pytest
from fastapi import FastAPI
from pydantic import BaseModel, SecretStr
from starlette.responses import PlainTextResponse, Response
from starlette.types import Receive, Scope, Send

from model_store.vae.record import Count
from service.errors import BadValue
from service.http.call import Call
from service.http.keys import Keys
from service.http.query import QueryParameters
from service.http.router import Endpoint, Mount, Router
from service.http.state import AppState
from service.settings import Settings

from ..conftest import running
from ..wire import PNG, picture

pytestmark = pytest.mark.anyio


class Parameters(QueryParameters):
    """A number, and a list."""

    n: Annotated[int, Count] = 1
    words: list[str] | None = None


class Answer(BaseModel):
    """An answer that is described, and never given."""


async def echo(call: Call, subject: str, parameters: Parameters) -> Response:
    """Say what was understood."""
    return PlainTextResponse(f"{call.path} {subject} {parameters.n} {parameters.words}")


async def refuse(_call: Call, _subject: str, _parameters: Parameters) -> Response:
    """Refuse every request."""
    raise BadValue("This is refused.")


ENDPOINTS = [
    Endpoint(
        name=name,
        methods=("GET", "HEAD"),
        summary=name,
        parameters=Parameters,
        answer=answer,
        answer_schema=Answer,
        responses={},
    )
    for name, answer in (("echo", echo), ("remote/echo", echo), ("refuse", refuse))
]


def find(call: Call) -> str:
    """The subject that an address names."""
    subject = call.path.get("thing", "nothing")
    call.log_model(subject)
    return subject


MOUNTS = [
    Mount(prefix="/v7/things/{thing}", endpoints=ENDPOINTS, find=find, tag="things"),
    Mount(prefix="/v7", endpoints=ENDPOINTS, find=find, tag="things", in_schema=False),
    Mount(prefix="/v7/pairs/{thing}/and/{other}", endpoints=ENDPOINTS, find=find, tag="things", in_schema=False),
]


class Behind:
    """An app behind a router, which remembers the requests that reach it."""

    def __init__(self) -> None:
        self.seen: list[str] = []

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.seen.append(scope["path"])
        await Response(status_code=204)(scope, receive, send)


@pytest.fixture
def behind() -> Behind:
    """The app behind the router."""
    return Behind()


def state_of(app: FastAPI, *keys: str) -> AppState:
    """The state of an app, with other keys."""
    return AppState(**{**vars(app.state.parts), "keys": Keys([SecretStr(key) for key in keys])})


def client_of(app: FastAPI, behind: Behind, *keys: str) -> httpx.AsyncClient:
    """A client of a router that locks /v7."""
    router = Router(behind, MOUNTS, state_of(app, *keys), locked=())

    async def with_state(scope: Scope, receive: Receive, send: Send) -> None:
        scope["state"] = {"request_id": "1", "timings": None}
        await router(scope, receive, send)

    return httpx.AsyncClient(transport=httpx.ASGITransport(with_state), base_url="http://latentd")


@pytest.fixture
async def routed(app: FastAPI, behind: Behind) -> AsyncIterator[httpx.AsyncClient]:
    """A client of a router without keys."""
    async with client_of(app, behind) as client:
        yield client


@pytest.mark.parametrize(
    ("url", "understood"),
    [
        ("/v7/echo", "{} nothing 1 None"),
        ("/v7/echo?n=3", "{} nothing 3 None"),
        ("/v7/things/a/echo?words=b&words=c", "{'thing': 'a'} a 1 ['b', 'c']"),
        ("/v7/things/gr%65y@1/remote/echo", "{'thing': 'grey@1'} grey@1 1 None"),
        ("/v7/things/{}/echo", "{'thing': '{}'} {} 1 None"),
        ("/v7/pairs/a/and/b/echo", "{'thing': 'a', 'other': 'b'} a 1 None"),
    ],
)
async def test_endpoint_gets_what_address_and_query_say(
    routed: httpx.AsyncClient, behind: Behind, url: str, understood: str
) -> None:
    """The app behind the router is not asked."""
    response = await routed.get(url)

    assert (response.status_code, response.text) == (200, understood)
    assert (await routed.head(url)).status_code == 200
    assert behind.seen == []


@pytest.mark.parametrize(
    ("url", "detail"),
    [
        ("/v7/refuse", "This is refused."),
        ("/v7/echo?n=many", "The query parameter n must be a whole number."),
        ("/v7/echo?n=1&n=1", "The query parameter n is given 2 times; give it once."),
        ("/v7/echo?" + "n=1&" * 600, "The query has 601 parameters; send at most 600."),
        ("/v7/echo?m=1", "The query parameter m is not known; the known names are n, words."),
    ],
)
async def test_error_is_a_problem(routed: httpx.AsyncClient, behind: Behind, url: str, detail: str) -> None:
    """Whether the query or the endpoint raises it."""
    response = await routed.get(url)

    assert response.status_code == 422
    assert response.headers["content-type"] == "application/problem+json"
    assert response.json()["detail"] == detail
    assert behind.seen == []


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/v7/echo"),
        ("GET", "/v7/things//echo"),
        ("GET", "/v7/echo/"),
        ("GET", "/v7/things"),
        ("GET", "/v7/pairs/a/or/b/echo"),
        ("GET", "/readyz"),
        ("GET", "/"),
    ],
)
async def test_other_requests_are_passed_on(routed: httpx.AsyncClient, behind: Behind, method: str, path: str) -> None:
    """Other methods, addresses that are nearly right, and all other addresses."""
    assert (await routed.request(method, path)).status_code == 204
    assert len(behind.seen) == 1


@pytest.mark.parametrize(
    ("path", "status"),
    [("/v7/echo", 401), ("/v7/things", 401), ("/v7", 401), ("/v7/none", 401), ("/v70", 204), ("/readyz", 204)],
)
async def test_locked_addresses_need_a_key(app: FastAPI, behind: Behind, path: str, status: int) -> None:
    """The router alone checks keys: for its endpoints, and for the app behind it."""
    async with client_of(app, behind, "first") as client:
        without, wrong = await client.get(path), await client.get(path, headers={"Authorization": "Bearer second"})
        seen = len(behind.seen)
        right = await client.get(path, headers={"Authorization": "Bearer first"})

    assert [without.status_code, wrong.status_code] == [status, status]
    assert seen == (0 if status == 401 else 2)
    assert right.status_code in {200, 204}


@pytest.mark.parametrize(
    ("prefix", "fixed"), [("/v7", "/v7"), ("/v7/things/{thing}", "/v7/things"), ("/v7/{a}/and/{b}", "/v7")]
)
def test_fixed_prefix_ends_before_the_first_name(prefix: str, fixed: str) -> None:
    """Every address below it needs a key, for any value of the names."""
    assert Mount(prefix=prefix, endpoints=[], find=find, tag="things").fixed_prefix == fixed


@pytest.mark.parametrize("prefix", ["", "/", "/{x}", "/{x}/v7", "v7", "/v7/", "/v7//{x}", "/v7-{x}", "/v7/{x"])
def test_prefix_that_locks_too_much_or_nothing_is_refused(prefix: str) -> None:
    """Without a fixed part, all addresses would need a key, probes too. With a strange part, none would."""
    with pytest.raises(ValueError, match=re.escape(f"The prefix {prefix!r} of a mount cannot be used")):
        Mount(prefix=prefix, endpoints=[], find=find, tag="things")


@pytest.mark.parametrize(
    ("method", "path"),
    [("POST", "/v1/encode"), ("POST", "/v1/models/grey/encode"), ("GET", "/v1/sample"), ("HEAD", "/v1/sample")],
)
async def test_operations_do_not_reach_fastapi(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, method: str, path: str
) -> None:
    """FastAPI's machinery costs more than a small model."""
    behind = Behind()
    monkeypatch.setattr(FastAPI, "build_middleware_stack", lambda _: behind)
    async with running(settings) as (_, client):
        response = await client.request(method, path, content=picture(), headers=PNG)
        passed_on = await client.get("/v1/models")

    assert (response.status_code, passed_on.status_code) == (200, 204)
    assert behind.seen == ["/v1/models"]
