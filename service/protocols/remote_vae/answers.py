"""The answers of both endpoints: a tensor with its shape and type in the headers, or a picture."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence

from starlette.responses import Response
from torch import Tensor

from ...formats.raw_tensors import write_raw
from ...http.answer_headers import computed_headers, documented_headers
from ...http.problems import Responses, documented_errors
from ...offload import offload
from ...operations.session import Session

TENSOR = "tensor/binary"

WRITTEN_COPIES = 3  # of a tensor while it is written: computed, converted, and as bytes

_BINARY = {"schema": {"type": "string", "format": "binary"}}
_ERRORS = documented_errors(400, 401, 404, 408, 413, 414, 415, 422, 429, 431, 500, 503, 504)
NO_HEADERS: Mapping[str, str] = {}


async def respond_with_tensor(
    session: Session,
    size: int,
    make: Callable[[], Tensor],
    more: Mapping[str, str] = NO_HEADERS,
) -> Response:
    """The bytes of the tensor that a function makes of `size` bytes, with its headers, and `more`."""
    with session.timings.measure("write"):
        content, headers = await offload(size, _write, make)
    return make_response(session, content, TENSOR, {**headers, **more})


def _write(make: Callable[[], Tensor]) -> tuple[bytes, dict[str, str]]:
    tensor = make()
    shape, dtype = json.dumps(list(tensor.shape)), str(tensor.dtype).removeprefix("torch.")
    return write_raw(tensor), {"shape": shape, "dtype": dtype}


def make_response(session: Session, content: bytes, media_type: str, more: Mapping[str, str] = NO_HEADERS) -> Response:
    """The response with its headers, and `more`."""
    session.memory.shrink_to(len(content))  # the tensors are not needed any more
    tiling, stages = session.grid and session.grid.text, session.timings.header()
    told = computed_headers(session.model.name, stages, tiling=tiling, precision=session.precision)
    return Response(content, media_type=media_type, headers={**told, **more})


def documented(*media_types: str, more: Sequence[str] = ()) -> Responses:
    """The OpenAPI's description of the answers in these media types with their headers, and of the errors."""
    headers = {
        "shape": {"description": "of a tensor, as a JSON list", "schema": {"type": "string"}},
        "dtype": {"description": "of a tensor: float16, bfloat16, float32 or uint8", "schema": {"type": "string"}},
        **documented_headers(*more),
    }
    return {200: {"content": dict.fromkeys(media_types, _BINARY), "headers": headers}} | _ERRORS


def documented_body(*media_types: str) -> dict[str, object]:
    """The OpenAPI's description of a body in one of these media types."""
    return {"requestBody": {"required": True, "content": dict.fromkeys(media_types, _BINARY)}}
