"""`/docs`, the OpenAPI as a page, and `/openapi.json`, its text. All answers come from memory.

fastapi_offline brings the page's scripts along, so that no other host is needed.
"""

from __future__ import annotations

import asyncio
import hashlib
from importlib.resources import files
from typing import NamedTuple

from fastapi import APIRouter, FastAPI, Request
from fastapi.openapi.docs import get_swagger_ui_html
from starlette.responses import HTMLResponse, JSONResponse, Response

from ..http.conditions import holds

router = APIRouter(include_in_schema=False)

_FOLDER = "static-offline-docs"
_MEDIA_TYPES = {
    "swagger-ui-bundle.js": "text/javascript",
    "swagger-ui.css": "text/css",
    "favicon.png": "image/png",
}


class Document(NamedTuple):
    """A text or picture that stays the same while the process lives."""

    content: bytes
    media_type: str
    tag: str

    def respond(self, request: Request) -> Response:
        """The document, or 304 if the client holds it."""
        headers = {"ETag": self.tag, "Cache-Control": "public, no-cache"}
        if holds(", ".join(request.headers.getlist("if-none-match")), self.tag):
            return Response(status_code=304, headers=headers)
        return Response(self.content, media_type=self.media_type, headers=headers)


def document(content: bytes, media_type: str) -> Document:
    """A document with its tag."""
    return Document(content, media_type, f'"{hashlib.sha256(content).hexdigest()[:32]}"')


@router.head("/docs")
@router.get("/docs")
async def docs() -> HTMLResponse:
    """The page. Its links are relative, for use behind proxies."""
    return get_swagger_ui_html(
        openapi_url="openapi.json",
        title="latentd",
        swagger_js_url=f"{_FOLDER}/swagger-ui-bundle.js",
        swagger_css_url=f"{_FOLDER}/swagger-ui.css",
        swagger_favicon_url=f"{_FOLDER}/favicon.png",
    )


@router.head("/openapi.json")
@router.get("/openapi.json")
async def openapi(request: Request) -> Response:
    """The OpenAPI."""
    state = request.app.state
    if not hasattr(state, "openapi_document"):
        making: asyncio.Task[None] | None = getattr(state, "openapi_making", None)
        if making is None or making.done():  # it has failed
            making = state.openapi_making = asyncio.create_task(asyncio.to_thread(make_openapi, request.app))
        await asyncio.shield(making)
    made: Document = state.openapi_document
    return made.respond(request)


def make_openapi(app: FastAPI) -> None:
    """Make the OpenAPI of an app, which it then answers from memory. Called before the app serves.

    At the first request for it, a thread would make it. Python's lock passes between that thread and the event loop,
    and beside many requests this held up each of them for up to 0.3 s.
    """
    app.state.openapi_document = document(bytes(JSONResponse(app.openapi()).body), "application/json")


def _add_file(name: str) -> None:
    """Answer a file of the page from memory: a process without a free file descriptor can answer it too."""
    content = document((files("fastapi_offline") / "static" / name).read_bytes(), _MEDIA_TYPES[name])

    async def answer(request: Request) -> Response:
        return content.respond(request)

    router.add_api_route(f"/{_FOLDER}/{name}", answer, methods=["GET", "HEAD"])


for _name in _MEDIA_TYPES:
    _add_file(_name)
