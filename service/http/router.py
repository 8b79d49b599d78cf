"""Endpoints: a request's address leads straight to the function that answers it.

FastAPI describes these endpoints in the OpenAPI and does not answer them: its machinery costs more than a small model.
Every other address goes to FastAPI. The router knows no protocol and no model.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Annotated, Any, Generic, NamedTuple, TypeVar

from fastapi import APIRouter, Query, Security
from fastapi.security import HTTPBearer
from pydantic import BaseModel
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send

from ..errors import NoSuchAddress, Unauthorized
from ..memory import Reservation
from .back_pressure import send_in_pieces
from .call import Call
from .client import client_of
from .problems import Responses, respond
from .query import QueryParameters, QueryReader
from .state import AppState

Subject = TypeVar("Subject")

# a fixed part, such as /v1, and then fixed parts and names in braces
_PREFIX = re.compile(r"/[\w.~-]+(/([\w.~-]+|\{\w+\}))*")

# Proxies and clients read an encoded slash in different ways, and FastAPI's patterns take a line feed for the end of an
# address. So no address has these characters. Names in addresses of endpoints are checked by `find`.
_ODD = re.compile(r"[\x00-\x1f\x7f\\\ufffd]")  # U+FFFD stands for bytes that are not UTF-8
_ENCODED_SLASH = re.compile(rb"%2f", re.IGNORECASE)

# Says in the OpenAPI that an address takes a key. The router checks the key.
KEY = Security(HTTPBearer(auto_error=False, description="needed only where the service has keys"))


@dataclass(frozen=True, kw_only=True)
class Endpoint(Generic[Subject]):
    """An operation at an address: its parameters, its answer and its documentation.

    `answer(call, subject, parameters)` gives the response, and raises errors that have a status. Its docstring is the
    endpoint's description in the OpenAPI, which shows the first of the methods. An endpoint that does not answer JSON
    has no schema for its answer. A name may have slashes.
    """

    name: str
    methods: tuple[str, ...]
    summary: str
    parameters: type[QueryParameters]
    answer: Callable[[Call, Subject, Any], Awaitable[Response]]
    answer_schema: type[BaseModel] | None
    responses: Responses
    request_body: Callable[[], dict[str, Any]] | None = None

    @property
    def path(self) -> str:
        """The endpoint's name in logs and metrics: the same for every address at which it is mounted."""
        return f"/{self.name}"


@dataclass(frozen=True, kw_only=True)
class Mount(Generic[Subject]):
    """Endpoints below one prefix such as `/v1/models/{model}`.

    `find(call)` gives the subject that the address names, such as a model. It is called before the query is read, so
    that the log line of a wrong query names the subject too.

    Raises:
        ValueError: the prefix does not begin with a fixed part, or has a part that is neither fixed nor a name.
    """

    prefix: str
    endpoints: Sequence[Endpoint[Subject]]
    find: Callable[[Call], Subject]
    tag: str
    path_parameters: Mapping[str, Any] = field(default_factory=dict)  # annotated types, for the OpenAPI
    in_schema: bool = True

    def __post_init__(self) -> None:
        if not _PREFIX.fullmatch(self.prefix):
            raise ValueError(
                f"The prefix {self.prefix!r} of a mount cannot be used: addresses below its fixed parts need a key, "
                "and probes must not. Begin it with a fixed part; each other part is fixed or a name in braces, "
                "as in /v1/models/{model}."
            )

    @property
    def fixed_prefix(self) -> str:
        """The prefix up to its first name, such as `/v1/models`. Every address below it needs a key."""
        return self.prefix.partition("/{")[0]

    def documentation(self) -> APIRouter:
        """Routes by which FastAPI describes the endpoints, and knows the methods of their addresses."""
        router = APIRouter(prefix=self.prefix, tags=[self.tag], dependencies=[KEY])
        for endpoint in self.endpoints:
            for method in endpoint.methods:
                router.add_api_route(
                    endpoint.path,
                    _function_to_describe(endpoint, self.path_parameters),
                    methods=[method],
                    name=endpoint.name,
                    summary=endpoint.summary,
                    description=inspect.getdoc(endpoint.answer),
                    response_model=endpoint.answer_schema,
                    response_class=JSONResponse if endpoint.answer_schema else Response,
                    responses=endpoint.responses,
                    openapi_extra=endpoint.request_body() if endpoint.request_body else None,
                    include_in_schema=self.in_schema and method == endpoint.methods[0],
                )
        return router


class Router:
    """Pure ASGI in front of an app: checks keys, answers endpoints, and passes every other request on.

    If the service has keys, a request below a mount needs one, and so does a request below a `locked` address.
    """

    def __init__(self, app: ASGIApp, mounts: Sequence[Mount[Any]], state: AppState, locked: Sequence[str]) -> None:
        self._app = app
        self._state = state
        self._locked = tuple(f"{address}/" for address in {*(mount.fixed_prefix for mount in mounts), *locked})
        self._targets: dict[tuple[str, ...], _Target] = {}
        # by the number of parts that an address has: the places of its names, such as {3: "model"}
        self._names: dict[int, list[dict[int, str]]] = {}
        for mount in mounts:
            for endpoint in mount.endpoints:
                parts = f"{mount.prefix}{endpoint.path}".split("/")
                names = {place: part[1:-1] for place, part in enumerate(parts) if part.startswith("{")}
                target = _Target(endpoint, mount.find, QueryReader(endpoint.parameters))
                self._targets |= {_key(method, parts, names): target for method in endpoint.methods}
                if names not in self._names.setdefault(len(parts), []):
                    self._names[len(parts)].append(names)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or pass it on."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        client = client_of(scope, self._state.keys)
        # held until the client has taken the answer
        with self._state.answer_memory.reserve(client) as memory:
            response = await self._response(scope, receive, client, memory)
            await response(scope, receive, partial(send_in_pieces, send))

    async def _response(self, scope: Scope, receive: Receive, client: str, memory: Reservation) -> ASGIApp:
        """The response of an endpoint, or the app that answers every other request."""
        path = scope["path"].removeprefix(scope["root_path"])
        try:
            target = self._find(scope, path)  # before the key is checked, so that the log of a 401 names the endpoint
            if f"{path}/".startswith(self._locked) and not self._state.keys.admit(scope["headers"]):
                raise Unauthorized
            if _ENCODED_SLASH.search(scope.get("raw_path") or b"") or (target is None and _ODD.search(path)):
                raise NoSuchAddress
            if target is None:
                return self._app
            call = Call(
                scope["headers"],
                scope["path_params"],
                receive,
                scope["state"],
                self._state.limits,
                self._state.deadlines,
                self._state.body_turns,
                self._state.body_memory,
                self._state.processes,
                memory,
                client,
            )
            subject = target.find(call)  # before the query is read
            return await target.endpoint.answer(call, subject, target.query.read(scope["query_string"]))
        except Exception as error:
            memory.shrink_to(0)
            return respond(scope["state"], error)

    def _find(self, scope: Scope, path: str) -> _Target | None:
        """The endpoint at an address; the scope then says which it is, and what its address names."""
        parts = path.split("/")
        for names in self._names.get(len(parts), ()):
            found = {name: parts[place] for place, name in names.items()}
            if all(found.values()) and (target := self._targets.get(_key(scope["method"], parts, names))):
                scope.update(route=target.endpoint, path_params=found)
                return target
        return None


class _Target(NamedTuple):
    endpoint: Endpoint[Any]
    find: Callable[[Call], Any]
    query: QueryReader[Any]


def _key(method: str, parts: Sequence[str], names: Mapping[int, str]) -> tuple[str, ...]:
    """An address as the router knows it: without the values of its names."""
    key = [method, *parts]
    for place in names:
        key[place + 1] = "{}"
    return tuple(key)


def _function_to_describe(endpoint: Endpoint[Any], path_parameters: Mapping[str, Any]) -> Callable[..., Any]:
    """A function whose signature tells FastAPI what an endpoint takes."""

    async def answered_by_the_router() -> None:
        raise AssertionError(f"{endpoint.name} has reached FastAPI, though the router answers it. This is a bug.")

    annotations = {"parameters": Annotated[endpoint.parameters, Query()], **path_parameters}
    answered_by_the_router.__signature__ = inspect.Signature(  # type: ignore[attr-defined]  # FastAPI reads it
        [inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, annotation=kind) for name, kind in annotations.items()]
    )
    return answered_by_the_router
