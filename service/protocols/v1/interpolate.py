"""Interpolate: two images or latents → the images between them."""

from __future__ import annotations

from functools import partial
from typing import Annotated

from pydantic import Field
from starlette.responses import Response

from ...http.call import Call
from ...http.negotiation import IMAGE_FORMATS, choose_format
from ...http.router import Endpoint
from ...operations.interpolate import interpolate
from ...operations.latent_paths import PathKind
from ...operations.session import Session
from .answers import ImagesAnswer, bytes_to_write, pixel_type, respond_with_images
from .bodies import read_pair
from .openapi import pair_body, responses
from .parameters import INT32_MAX, LatentsAreScaled, PictureParameters, PictureResize, TileParameters


class InterpolateParameters(TileParameters, PictureParameters):
    """The query of interpolate."""

    steps: Annotated[int, Field(ge=2, le=INT32_MAX, description="pictures in all, ends included")] = 8
    path: Annotated[PathKind, Field(description="straight, or on the sphere where a prior's latents lie")] = "spherical"
    resize: PictureResize = "none"
    scaled: LatentsAreScaled = None


async def answer(call: Call, session: Session, parameters: InterpolateParameters) -> Response:
    """The images on a path from one latent to another, side by side, both ends included."""
    wanted = choose_format(parameters.format, call.headers.get("accept"), IMAGE_FORMATS)
    session.written_bytes = partial(bytes_to_write, wanted, session.config)
    session.tile_wish = parameters.tile_wish
    pair = await read_pair(call, session, parameters.resize, parameters.scaled)
    steps, path = parameters.steps, parameters.path
    work = interpolate(session, pair, steps=steps, path=path, pixel_type=pixel_type(wanted))
    images = await call.wait_for(work, "ask for fewer steps")
    return await respond_with_images(
        call, wanted, session, [images], columns=steps, jpeg_quality=parameters.jpeg_quality
    )


ENDPOINT = Endpoint(
    name="interpolate",
    methods=("POST",),
    summary="two images or latents → the images between them",
    parameters=InterpolateParameters,
    answer=answer,
    answer_schema=ImagesAnswer,
    responses=responses(IMAGE_FORMATS, reads_body=True),
    request_body=pair_body,
)
