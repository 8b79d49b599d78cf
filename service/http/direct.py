"""A route that FastAPI documents and that is answered without its machinery, which costs more than a small model."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any, get_type_hints

from fastapi.routing import APIRoute
from pydantic import ValidationError
from starlette.datastructures import QueryParams
from starlette.requests import Request
from starlette.types import Receive, Scope, Send

from model_store.vae.record import validation_messages

from ..errors import InvalidParameter
from ..protocols.v1.schemas import Parameters
from .call import Call
from .problems import respond
from .state import call_of, check_key


class DirectRoute(APIRoute):
    """An operation: `endpoint(call, parameters)` gives the response, and raises errors that have a status.

    The parameters are a pydantic model of the query, by the same rules as FastAPI's.
    """

    def __init__(self, path: str, endpoint: Callable[..., Any], **options: Any) -> None:
        super().__init__(path, endpoint, **options)
        self._parameters: type[Parameters] = get_type_hints(endpoint)["parameters"]
        self._left_out: Parameters = self._parameters()
        self._lists = self._parameters.lists()

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
            response = await respond(request, error)
        await response(scope, receive, send)

    def _call(self, request: Request) -> Call:
        check_key(request)
        return call_of(request)

    def _read(self, request: Request) -> Parameters:
        if not request.scope["query_string"]:
            return self._left_out
        given = request.query_params
        values = {name: given.getlist(name) if name in self._lists else given[name] for name in given}
        try:
            parameters = self._parameters.model_validate(values)
        except ValidationError as error:
            raise InvalidParameter(validation_messages(error, self._parameters)[0]) from error
        if len(given.multi_items()) > len(given):
            _check_repeated(given, self._lists)
        return parameters


def _check_repeated(given: QueryParams, lists: Collection[str]) -> None:
    """Raise InvalidParameter if a parameter that is not a list is given several times."""
    for name in given.keys() - lists:
        if (times := len(given.getlist(name))) > 1:
            raise InvalidParameter(f"{name} is given {times} times; give it once")
