"""`/docs`: the OpenAPI as a page. fastapi_offline brings its scripts along, so that no other host is needed."""

from __future__ import annotations

import hashlib
from importlib.resources import files

from fastapi import APIRouter, Request
from fastapi.openapi.docs import get_swagger_ui_html
from starlette.responses import HTMLResponse, Response

from ..http.conditions import holds

router = APIRouter(include_in_schema=False)

_FOLDER = "static-offline-docs"
_MEDIA_TYPES = {
    "swagger-ui-bundle.js": "text/javascript",
    "swagger-ui.css": "text/css",
    "favicon.png": "image/png",
}


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


def _file(name: str) -> None:
    """Answer a file of the page from memory: a process without a free file descriptor can answer it too."""
    content = (files("fastapi_offline") / "static" / name).read_bytes()
    headers = {"ETag": f'"{hashlib.sha256(content).hexdigest()[:32]}"', "Cache-Control": "public, no-cache"}

    async def answer(request: Request) -> Response:
        if holds(", ".join(request.headers.getlist("if-none-match")), headers["ETag"]):
            return Response(status_code=304, headers=headers)
        return Response(content, media_type=_MEDIA_TYPES[name], headers=headers)

    router.add_api_route(f"/{_FOLDER}/{name}", answer, methods=["GET", "HEAD"])


for _name in _MEDIA_TYPES:
    _file(_name)
