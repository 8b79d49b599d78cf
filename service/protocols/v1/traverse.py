"""Traverse: one latent, moved along single dimensions → a grid of images."""

from __future__ import annotations

from functools import partial
from itertools import islice
from typing import Annotated

from pydantic import BeforeValidator, Field, WithJsonSchema
from starlette.responses import Response

from ...http.call import Call
from ...http.negotiation import IMAGE_FORMATS, choose_format
from ...http.router import Endpoint
from ...operations.session import Session
from ...operations.traverse import traverse
from .answers import ImagesAnswer, bytes_to_write, pixel_type, respond_with_images
from .openapi import responses
from .parameters import INT32_MAX, Parameters, PictureParameters, Seed

_MAX_DIMS = 500
_COMMA_LIST = {
    "anyOf": [
        {"type": "array", "items": {"type": "integer", "minimum": 0, "maximum": 9_999_999}, "maxItems": _MAX_DIMS},
        {"type": "string", "pattern": r"^\d{1,7}(,\d{1,7})*$", "maxLength": 1000},
        {"type": "null"},
    ]
}


def _split_at_commas(texts: object) -> object:
    if not isinstance(texts, list):
        return texts
    # one more than allowed: an address has room for thousands, and each wrong one becomes an error
    return list(islice((part for text in texts for part in text.split(",")), _MAX_DIMS + 1))


class TraverseParameters(Parameters, PictureParameters):
    """The query of traverse."""

    dims: Annotated[
        list[Annotated[int, Field(ge=0, le=9_999_999)]] | None,
        BeforeValidator(_split_at_commas),
        Field(
            max_length=_MAX_DIMS, description="a repeated key or a comma list; else the dimensions with the largest KL"
        ),
        WithJsonSchema(_COMMA_LIST),
    ] = None
    steps: Annotated[int, Field(ge=2, le=INT32_MAX, description="columns")] = 9
    span: Annotated[float, Field(gt=0, le=10, description="to either side, in standard deviations")] = 3.0
    seed: Annotated[Seed | None, Field(description="begins at this draw from the prior, else in its middle")] = None


async def answer(call: Call, session: Session, parameters: TraverseParameters) -> Response:
    """A row of images for each dimension. If the number of steps is odd, the middle column shows the latent itself."""
    wanted = choose_format(parameters.format, call.headers.get("accept"), IMAGE_FORMATS)
    session.written_bytes = partial(bytes_to_write, wanted, session.config)
    work = traverse(
        session,
        dims=parameters.dims,
        steps=parameters.steps,
        span=parameters.span,
        seed=parameters.seed,
        pixel_type=pixel_type(wanted),
    )
    images = await call.wait_for(work, "ask for fewer steps or dims")
    return await respond_with_images(
        call,
        wanted,
        session,
        [images],
        columns=parameters.steps,
        jpeg_quality=parameters.jpeg_quality,
        seed=parameters.seed,
    )


ENDPOINT = Endpoint(
    name="traverse",
    methods=("GET", "HEAD"),
    summary="one latent, moved along single dimensions → a grid of images",
    parameters=TraverseParameters,
    answer=answer,
    answer_schema=ImagesAnswer,
    responses=responses(IMAGE_FORMATS),
)
