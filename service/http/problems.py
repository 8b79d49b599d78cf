"""Problem documents (RFC 9457): one table gives each error its status, and all errors have one form."""

from __future__ import annotations

import errno
import math
import re
from collections.abc import Mapping, MutableMapping, Sequence
from http import HTTPStatus
from typing import Annotated, Any, cast
from urllib.parse import quote

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, Field
from pydantic_core import ErrorDetails
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse
from starlette.routing import BaseRoute, Match

from model_store import InvalidName, ModelNotFound
from model_store.vae.record import Count
from model_store.vae.sentences import sentence

from .. import errors

CLIENT_GONE = 499  # only for logs and metrics: a client that hung up receives no answer

STATUS: dict[type[Exception], int] = {
    errors.BadRequest: 400,
    errors.MalformedBody: 400,
    errors.Unauthorized: 401,
    errors.OtherSite: 403,
    errors.NoSuchAddress: 404,
    InvalidName: 404,
    ModelNotFound: 404,
    errors.NoDefaultModel: 404,
    errors.NotAcceptable: 406,
    errors.BodyTimeout: 408,
    errors.BodyTooSlow: 408,
    errors.HeadTimeout: 408,
    errors.TooLarge: 413,
    errors.MemoryExceeded: 413,
    errors.AddressTooLong: 414,
    errors.UnsupportedMediaType: 415,
    errors.UnsupportedEncoding: 415,
    errors.UnknownExpectation: 417,
    errors.MisdirectedRequest: 421,
    errors.BadImage: 422,
    errors.WrongShape: 422,
    errors.WrongLatentSpace: 422,
    errors.SeveralSizes: 422,
    errors.BadValue: 422,
    errors.InvalidParameter: 422,
    errors.NotSupportedByModel: 422,
    errors.QueueFull: 429,
    errors.BodyMemoryFull: 429,
    errors.AnswerMemoryFull: 429,
    errors.ProcessesBusy: 429,
    errors.LargeImagesWait: 429,
    errors.HeadTooLarge: 431,
    errors.ClientGone: CLIENT_GONE,
    errors.NotFinite: 500,
    errors.NeedsRestart: 500,
    errors.UnknownTransferCoding: 501,
    errors.TooManyConnections: 503,
    errors.Starting: 503,
    errors.NotServing: 503,
    errors.Draining: 503,
    errors.ProcessLost: 503,
    errors.OutOfMemory: 503,
    errors.OutOfResources: 503,
    errors.DeviceHung: 503,
    errors.DeviceLost: 503,
    errors.DeadlineExceeded: 504,
}

_EXHAUSTED = {errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS}

MAX_RETRY_S = 3600

_METHODS = ("DELETE", "GET", "HEAD", "PATCH", "POST", "PUT")

MEDIA_TYPE = "application/problem+json"

Responses = dict[int | str, dict[str, Any]]
"""The OpenAPI's description of the answers of an address, by their status."""


class Problem(BaseModel):
    """Why a request has failed (RFC 9457); `error` repeats `detail` for clients of the Open Inference Protocol."""

    type: str
    title: str
    status: Annotated[int, Field(ge=400, le=599)]
    detail: str
    instance: str
    error: str
    request_id: str
    index: Annotated[
        Count | None,
        Field(description="the image or latent of the request that is at fault, from 0; absent if no single one is"),
    ] = None


def documented_errors(*statuses: int) -> Responses:
    """The OpenAPI's description of the errors that a request to an address may get."""
    content = {MEDIA_TYPE: {"schema": Problem.model_json_schema()}}
    return {status: {"description": "problem details", "content": content} for status in statuses}


def install(app: FastAPI) -> None:
    """Make the app answer every error with a problem document."""

    async def answer(request: Request, error: Exception) -> JSONResponse:
        return respond(request.scope["state"], error)

    async def answer_bug(request: Request, _: Exception) -> JSONResponse:
        return bug(request.state.request_id)

    for kind in (*STATUS, OSError, MemoryError):
        app.add_exception_handler(kind, answer)
    app.add_exception_handler(RequestValidationError, _invalid_parameter)
    app.add_exception_handler(HTTPException, _http_error)
    app.add_exception_handler(Exception, answer_bug)


def respond(state: MutableMapping[str, Any], error: Exception) -> JSONResponse:
    """The problem document of an error. The request's state keeps the reason for the log.

    Raises:
        the error itself if it has no status: then it is a bug of the service.
    """
    if isinstance(error, MemoryError) or (isinstance(error, OSError) and error.errno in _EXHAUSTED):
        error = errors.OutOfResources()
    if not any(kind in STATUS for kind in type(error).__mro__):
        raise error
    state["reason"] = str(error)
    return as_problem(state["request_id"], error)


def words_of(kind: str) -> str:
    """The small words in a CamelCase word: `not serving` in `NotServing`."""
    return re.sub(r"(?<!^)(?=[A-Z])", " ", kind).lower()


def problem(
    request_id: str,
    status: int,
    kind: str,
    detail: str,
    headers: Mapping[str, str] | None = None,
    index: int | None = None,
) -> JSONResponse:
    """A problem document. Its type and title come from `kind`, a CamelCase word such as `BadImage`."""
    words = words_of(kind)
    body = Problem(
        type=f"urn:latentd:problem:{words.replace(' ', '-')}",
        title=words.capitalize(),
        status=status,
        detail=detail,
        instance=f"urn:latentd:request:{request_id}",
        error=detail,
        request_id=request_id,
        index=index,
    )
    return JSONResponse(body.model_dump(exclude_none=True), status, headers, media_type=MEDIA_TYPE)


def bug(request_id: str) -> JSONResponse:
    """The problem document of a bug of the service. The client can only report the request's id."""
    detail = f"The service has a bug; its log says more under the request id {request_id}. Please report that id."
    return problem(request_id, 500, "InternalError", detail)


def as_problem(request_id: str, error: Exception) -> JSONResponse:
    """The problem document of an error that is in the table."""
    status = next(STATUS[kind] for kind in type(error).__mro__ if kind in STATUS)
    headers = {}
    if (retry_after_s := getattr(error, "retry_after_s", None)) is not None:
        headers["Retry-After"] = str(min(max(1, math.ceil(retry_after_s)), MAX_RETRY_S))
    if isinstance(error, errors.Unauthorized):
        headers["WWW-Authenticate"] = "Bearer"
    return problem(request_id, status, type(error).__name__, str(error), headers, getattr(error, "index", None))


async def _invalid_parameter(request: Request, error: Exception) -> JSONResponse:
    """Name the first wrong parameter that FastAPI has found at one of its routes."""
    first: ErrorDetails = cast(RequestValidationError, error).errors()[0]
    first["loc"] = first["loc"][1:]  # without the word query
    return respond(request.scope["state"], errors.InvalidParameter(sentence(first)))


async def _http_error(request: Request, error: Exception) -> JSONResponse:
    """Explain an error of FastAPI's router: no such address, or a method that the address does not take."""
    error = cast(HTTPException, error)
    phrase = HTTPStatus(error.status_code).phrase
    kind = phrase.title().replace(" ", "").replace("-", "")
    detail, headers = f"{phrase}.", error.headers
    if error.status_code == HTTPStatus.NOT_FOUND:
        detail = f"There is nothing at this address; {nearest_address(request)}."
    elif error.status_code == HTTPStatus.METHOD_NOT_ALLOWED:
        allowed = allowed_methods(request)
        detail = f"This address does not take {request.method[:20]}; send {' or '.join(allowed)}."
        headers = {"Allow": ", ".join(allowed)}
    request.state.reason = detail
    return problem(request.state.request_id, error.status_code, kind, detail, headers)


def allowed_methods(request: Request) -> list[str]:
    """The methods of all routes at this address. FastAPI's own list has only the methods of the first route."""
    scopes = [{**request.scope, "method": method} for method in _METHODS]
    routes: Sequence[BaseRoute] = request.app.routes
    return [scope["method"] for scope in scopes if any(route.matches(scope)[0] is Match.FULL for route in routes)]


def nearest_address(request: Request) -> str:
    """A hint: the same address without a slash at its end if that exists, else where all addresses are listed."""
    path: str = request.scope["path"].rstrip("/")
    if request.scope["path"] == request.scope["root_path"]:  # the page's relative links would miss the prefix
        return f"add a slash at its end: {path}/"
    routes: Sequence[BaseRoute] = request.app.router.routes
    if path != request.scope["path"] and any(
        route.matches({**request.scope, "path": path})[0] is not Match.NONE for route in routes
    ):
        return f"leave out the slash at its end: {quote(path)[:200]}"
    return f"{request.base_url.path}docs lists the addresses that exist"
