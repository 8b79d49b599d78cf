"""Reconstruct: images → images, through the latents."""

from __future__ import annotations

from pydantic import Field
from starlette.responses import Response

from ...http.call import Call
from ...http.negotiation import IMAGE_FORMATS, choose_format
from ...http.router import Endpoint
from ...operations.reconstruct import reconstruct
from ...operations.session import Session
from .answers import ImagesAnswer, bytes_to_write, pixel_type, respond_with_images
from .bodies import read_images
from .openapi import images_body, responses
from .parameters import DrawParameters


class ReconstructAnswer(ImagesAnswer):
    """Images, encoded and decoded, and their distance from the originals on the scale [0, 1]."""

    mse: list[float]
    psnr_db: list[float | None] = Field(description="null where the images are equal")


async def answer(call: Call, session: Session, parameters: DrawParameters) -> Response:
    """Each image encoded and decoded again; as JSON with its distance from the original."""
    wanted = choose_format(parameters.format, call.headers.get("accept"), IMAGE_FORMATS)
    session.written_bytes = bytes_to_write(wanted, session)
    pixels = await read_images(call, session, parameters.resize)
    work = reconstruct(
        session,
        pixels,
        draw=parameters.latents,
        seed=parameters.seed,
        # the distances in JSON are measured before the images are rounded
        pixel_type="float32" if wanted == "json" else pixel_type(wanted),
    )
    reconstruction = await call.wait_for(work)
    more = vars(reconstruction.distortion) if reconstruction.distortion else None
    return await respond_with_images(call, wanted, session, reconstruction.images, seed=reconstruction.seed, more=more)


ENDPOINT = Endpoint(
    name="reconstruct",
    methods=("POST",),
    summary="images → images, through the latents",
    parameters=DrawParameters,
    answer=answer,
    answer_schema=ReconstructAnswer,
    responses=responses(IMAGE_FORMATS, reads_body=True),
    request_body=images_body,
)
