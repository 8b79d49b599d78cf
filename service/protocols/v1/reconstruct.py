"""Reconstruct: images → images, through the latents."""

from __future__ import annotations

from functools import partial

from pydantic import Field
from starlette.responses import Response

from ...http.answer_headers import ORIGINAL_SIZE, original_sizes
from ...http.call import Call
from ...http.negotiation import IMAGE_FORMATS, choose_format
from ...http.router import Endpoint
from ...operations.padding import are_padded
from ...operations.runs import reconstruct_runs, shapes_of
from ...operations.session import Session
from .answers import (
    NO_HEADERS,
    ImagesAnswer,
    bytes_to_write,
    check_one_size,
    pixel_type,
    respond_with_images,
)
from .bodies import read_runs
from .openapi import images_body, responses
from .parameters import DrawParameters, PictureParameters


class ReconstructAnswer(ImagesAnswer):
    """Images, encoded and decoded, and their distance from the originals on the scale [0, 1]."""

    mse: list[float]
    psnr_db: list[float | None] = Field(description="null where the images are equal")


class ReconstructParameters(DrawParameters, PictureParameters):
    """The query of reconstruct."""


async def answer(call: Call, session: Session, parameters: ReconstructParameters) -> Response:
    """Each image encoded and decoded again; as JSON with its distance from the original."""
    wanted = choose_format(parameters.format, call.headers.get("accept"), IMAGE_FORMATS)
    session.written_bytes = partial(bytes_to_write, wanted, session.config)
    session.tile_wish = parameters.tile_wish
    images = await read_runs(call, session, parameters.resize, parameters.fit)
    if wanted not in ("json", "safetensors"):
        check_one_size(images)
    work = reconstruct_runs(
        session,
        images,
        draw=parameters.latents,
        seed=parameters.seed,
        # the distances in JSON are measured before the images are rounded
        pixel_type="float32" if wanted == "json" else pixel_type(wanted),
    )
    reconstructions = await call.wait_for(work)
    distortions = [each.distortion for each in reconstructions if each.distortion]
    more = {
        "mse": [error for each in distortions for error in each.mse],
        "psnr_db": [decibels for each in distortions for decibels in each.psnr_db],
    }
    return await respond_with_images(
        call,
        wanted,
        session,
        [each.images for each in reconstructions],
        jpeg_quality=parameters.jpeg_quality,
        seed=reconstructions[0].seed,
        more=more,
        headers=original_sizes(shapes_of(images)) if are_padded(parameters.fit, session.config) else NO_HEADERS,
    )


ENDPOINT = Endpoint(
    name="reconstruct",
    methods=("POST",),
    summary="images → images, through the latents",
    parameters=ReconstructParameters,
    answer=answer,
    answer_schema=ReconstructAnswer,
    responses=responses(IMAGE_FORMATS, reads_body=True, headers=(ORIGINAL_SIZE,)),
    request_body=images_body,
)
