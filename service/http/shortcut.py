"""The way of most requests: an operation's address leads straight to its route, past everything else that an app has.

FastAPI would find the same route: middleware by middleware, then path by path.
"""

from __future__ import annotations

from collections.abc import Sequence

from starlette.routing import BaseRoute
from starlette.types import ASGIApp, Receive, Scope, Send

from .direct import DirectRoute


class Shortcut:
    """Pure ASGI in front of an app, for `/v1/OPERATION` and `/v1/models/MODEL/OPERATION`."""

    def __init__(self, app: ASGIApp, routes: Sequence[BaseRoute]) -> None:
        self._app = app
        direct = [route for route in routes if isinstance(route, DirectRoute)]
        self._routes = {(method, route.path[1:]): route for route in direct for method in route.methods or ()}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, to its operation or to the app."""
        match scope["path"].removeprefix(scope["root_path"]).split("/") if scope["type"] == "http" else []:
            case ["", "v1", operation]:
                found: dict[str, str] = {}
            case ["", "v1", "models", model, operation] if model:
                found = {"model": model}
            case _:
                await self._app(scope, receive, send)
                return
        route = self._routes.get((scope["method"], operation))
        if route is None:
            await self._app(scope, receive, send)
            return
        scope.update(route=route, endpoint=route.endpoint, path_params=found)
        await route.handle(scope, receive, send)
