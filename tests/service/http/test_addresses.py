"""An address has one spelling, but for percent-encoded letters; every other spelling is 404, and none is redirected."""

import asyncio
from collections.abc import AsyncIterator
from urllib.parse import unquote

import pytest
from fastapi import FastAPI
from starlette.types import Message

from service.settings import Settings

from ..conftest import running
from ..wire import picture

pytestmark = pytest.mark.anyio

ODD = [
    "/v1/sample/", "/v1/encode/", "/v1//sample", "//v1/sample", "/v1/sample//", "/v1/./sample", "/v1/x/../sample",
    "//evil.example/..", "//evil.example/v1/sample", "/\\evil.example", "/%5cevil.example", "/%2f%2fevil.example",
    "/v1%2fsample", "/v1%2Fsample", "/v1%2fmodels", "/v1/models%2fgrey", "/v1/models/grey%2fsample", "/%2fv1/sample",
    "/v1/models/grey%2Fencode", "/%6civez%2f", "/livez/", "/livez%00", "/livez%0a", "/livez%0d%0a", "/docs%0a",
    "/v1/sample%0a", "/v1/encode%0a", "/v1/models/grey/sample%0a", "/v1/models%0a", "/v1/sample%00", "/v1/sample%20",
    "/v1/%2e%2e/v1/sample", "/v1/%2e/sample", "/v1/models/%2e%2e/sample", "/v1/models/..%2f..%2fetc/sample",
    "/v1/models/%c0%ae%c0%ae/sample", "/v1/models/%c0%af/sample", "/%c0%afv1/sample", "/v1/sampl%c1%a5",
    "/v1%252fsample", "/v1/sample%252f", "/v1/models/gre%2579/sample", "/v1/sample%3fseed=7", "/v1/sample%23",
    "/v1/sample;x=1", "/v1;x/sample", "/livez;", "/docs;x=1", "/v1/models/grey;x/sample", "/V1/sample", "/LIVEZ",
    "/static-offline-docs/..%2f..%2fcore.py", "/static-offline-docs/../core.py", "/static-offline-docs",
    "/static-offline-docs/", "/static-offline-docs/redoc.standalone.js", "/docs/oauth2-redirect", "/redoc",
]  # fmt: skip
MOUNTED = {"no prefix": {}, "a setting": {"root_path": "/a/b"}, "a header": {"forwarded_by": "*"}}
PREFIXES = {"no prefix": [""], "a setting": ["", "/a/b"], "a header": ["", "/a/b"]}


@pytest.fixture(params=MOUNTED)
async def mounted(settings: Settings, request: pytest.FixtureRequest) -> AsyncIterator[tuple[FastAPI, list[str]]]:
    """A service without and with a prefix, and the prefixes under which it answers."""
    async with running(settings, **MOUNTED[request.param]) as (app, _):
        yield app, PREFIXES[request.param]


async def status(app: FastAPI, method: str, raw_path: str) -> tuple[int, bytes | None]:
    """The status and the Location of a request with exactly this path on the wire."""
    headers = {b"host": b"latentd", b"content-type": b"image/png", b"x-forwarded-prefix": b"/a/b"}
    scope = {
        "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": method, "scheme": "http",
        "path": unquote(raw_path), "raw_path": raw_path.encode(), "query_string": b"", "root_path": "",
        "headers": [*headers.items()], "client": ("127.0.0.1", 5), "server": ("127.0.0.1", 8000),
    }  # fmt: skip
    body = asyncio.Queue[Message]()
    body.put_nowait({"type": "http.request", "body": picture(), "more_body": False})
    sent: list[Message] = []

    async def send(message: Message) -> None:
        sent.append(message)

    await app(scope, body.get, send)
    return sent[0]["status"], dict(sent[0]["headers"]).get(b"location")


@pytest.mark.parametrize(("method", "right"), [("GET", {404}), ("POST", {404, 405})])
async def test_odd_spelling_leads_nowhere(mounted: tuple[FastAPI, list[str]], method: str, right: set[int]) -> None:
    """Proxies that read the same address in another way would check another one than is answered.

    The address of a model's samples takes no POST, for any name of the model.
    """
    app, prefixes = mounted
    allowed = {(told, None) for told in right}
    answers = {prefix + path: await status(app, method, prefix + path) for prefix in prefixes for path in ODD}

    assert {path: answer for path, answer in answers.items() if answer not in allowed} == {}


async def test_letters_may_be_encoded(mounted: tuple[FastAPI, list[str]]) -> None:
    """Clients encode the @ of a version, and any letter may be encoded (RFC 3986, section 6.2.2.2)."""
    app, prefixes = mounted
    paths = ["/v1/models/grey%401/sample", "/v1/models/gr%65y/sample", "/%76%31/sample"]

    assert {await status(app, "GET", prefix + path) for prefix in prefixes for path in paths} == {(200, None)}


@pytest.mark.parametrize("path", ["/v1%2fmodels", "/v1/%2e%2e/v1/models", "/v1/models%0a", "/v1/"])
async def test_key_is_asked_for_before_a_spelling_is_judged(settings: Settings, path: str) -> None:
    """An address below /v1 tells nothing without a key."""
    async with running(settings, api_keys="first") as (app, _):
        assert await status(app, "GET", path) == (401, None)
