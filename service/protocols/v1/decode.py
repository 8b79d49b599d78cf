"""Decode: latents → images."""

from __future__ import annotations

from starlette.responses import Response

from ...http.call import Call
from ...http.negotiation import IMAGE_FORMATS, choose_format
from ...http.router import Endpoint
from ...operations.decode import decode
from ...operations.session import Session
from .answers import ImagesAnswer, bytes_to_write, pixel_type, respond_with_images
from .bodies import read_latents
from .openapi import latents_body, responses
from .parameters import Parameters


async def answer(call: Call, session: Session, parameters: Parameters) -> Response:
    """The image of each latent; several as one picture become a grid, row by row."""
    wanted = choose_format(parameters.format, call.headers.get("accept"), IMAGE_FORMATS)
    session.written_bytes = bytes_to_write(wanted, session)
    latents = await read_latents(call, session)
    images = await call.wait_for(decode(session, latents, pixel_type=pixel_type(wanted)), "send fewer latents")
    return await respond_with_images(call, wanted, session, images)


ENDPOINT = Endpoint(
    name="decode",
    methods=("POST",),
    summary="latents → images",
    parameters=Parameters,
    answer=answer,
    answer_schema=ImagesAnswer,
    responses=responses(IMAGE_FORMATS, reads_body=True),
    request_body=latents_body,
)
