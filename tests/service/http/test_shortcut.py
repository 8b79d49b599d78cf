"""An operation's address leads straight to its route; the answer is the one that the whole app would give."""

import httpx
import pytest
from fastapi import FastAPI

from service.http.shortcut import Shortcut

from ..wire import picture

pytestmark = pytest.mark.anyio


class Detour:
    """An app behind a shortcut, which counts whom the shortcut has not taken."""

    def __init__(self, app: FastAPI) -> None:
        self._app = app.build_middleware_stack()
        self.seen: list[str] = []

    async def __call__(self, scope, receive, send) -> None:
        self.seen.append(scope["path"])
        await self._app(scope, receive, send)


@pytest.fixture
def detour(app: FastAPI) -> Detour:
    """Behind the app's own shortcut."""
    detour, access = Detour(app), app.middleware_stack
    shortcut = access._app._app
    assert isinstance(shortcut, Shortcut)
    shortcut._app = detour
    return detour


async def answers(app: FastAPI, method: str, path: str) -> tuple[httpx.Response, httpx.Response]:
    """By the shortcut, and by the whole app behind it."""
    access = app.middleware_stack
    shortcut = access._app._app
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://latentd") as client:
        content = picture() if method == "POST" else None
        headers = {"Content-Type": "image/png"} if content else {}
        short = await client.request(method, path, content=content, headers=headers)
        access._app._app = shortcut._app
        whole = await client.request(method, path, content=content, headers=headers)
        access._app._app = shortcut
    return short, whole


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/v1/encode"),
        ("POST", "/v1/models/grey/encode"),
        ("POST", "/v1/models/gr%65y@1/encode?latents=mean"),
        ("GET", "/v1/sample?seed=7"),
        ("HEAD", "/v1/sample?seed=7"),
        ("GET", "/v1/models/grey/sample?n=2&seed=7"),
    ],
)
async def test_shortcut_answers_as_the_whole_app(app: FastAPI, detour: Detour, method: str, path: str) -> None:
    """The same type and bytes, and it alone was asked."""
    short, whole = await answers(app, method, path)

    assert len(detour.seen) == 1
    assert (short.status_code, whole.status_code) == (200, 200)
    assert short.headers["content-type"] == whole.headers["content-type"]
    assert short.content == whole.content


@pytest.mark.parametrize(
    "path",
    [
        "/v1/sample?n=0",
        "/v1/sample?n=2&seed=7&n=3",
        "/v1/sample?colour=red",
        "/v1/models/nobody/sample",
        "/v1/models/a%00b/sample",
    ],
)
async def test_shortcut_refuses_as_the_whole_app(app: FastAPI, detour: Detour, path: str) -> None:
    """With the same status and words; only the request's id is another."""
    short, whole = await answers(app, "GET", path)

    assert len(detour.seen) == 1
    assert short.status_code == whole.status_code >= 400
    assert short.headers["content-type"] == whole.headers["content-type"] == "application/problem+json"
    assert short.json()["detail"] == whole.json()["detail"]


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/v1/encode"),
        ("POST", "/v1/models//encode"),
        ("POST", "/v1/encode/"),
        ("GET", "/v1/models/..%2F/sample"),
        ("GET", "/v1/models"),
        ("GET", "/v1/models/grey"),
        ("GET", "/readyz"),
        ("POST", "/v2/encode"),
    ],
)
async def test_everything_else_goes_to_the_app(app: FastAPI, detour: Detour, method: str, path: str) -> None:
    """Which knows other methods, addresses that are nearly right, and all other routes."""
    await answers(app, method, path)

    assert len(detour.seen) == 2
