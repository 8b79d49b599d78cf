"""A route that FastAPI documents and that is answered without its machinery, which costs more than a small model."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, get_type_hints

from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from pydantic import ValidationError
from starlette.requests import Request
from starlette.types import Receive, Scope, Send

from .. import error_responses
from ..call import Call
from ..dependencies import call_of, check_key
from ..schemas import Parameters


class DirectRoute(APIRoute):
    """An operation: `endpoint(call, parameters)` gives the response, and raises errors that have a status.

    The parameters are a pydantic model of the query, by the same rules as FastAPI's.
    """

    def __init__(self, path: str, endpoint: Callable[..., Any], **options: Any) -> None:
        super().__init__(path, endpoint, **options)
        self._parameters: type[Parameters] = get_type_hints(endpoint)["parameters"]
        self._left_out: Parameters = self._parameters()

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request; FastAPI says which methods there are to one with another."""
        if scope["method"] not in (self.methods or ()):
            await super().handle(scope, receive, send)
            return
        request = Request(scope, receive, send)
        try:
            call = self._call(request)
            response = await self.endpoint(call, self._read(request))
        except Exception as error:
            response = await error_responses.respond(request, error)
        await response(scope, receive, send)

    def _call(self, request: Request) -> Call:
        check_key(request)
        return call_of(request)

    def _read(self, request: Request) -> Parameters:
        if not request.scope["query_string"]:
            return self._left_out
        try:
            return self._parameters.model_validate(dict(request.query_params))
        except ValidationError as error:
            problems = [{**problem, "loc": ("query", *problem["loc"])} for problem in error.errors()]
            raise RequestValidationError(problems) from error
