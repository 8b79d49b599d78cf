"""Decode: latents → images."""

from __future__ import annotations

from functools import partial
from typing import Annotated, Literal

from pydantic import Field
from starlette.responses import Response

from ...http.call import Call
from ...http.negotiation import IMAGE_FORMATS, choose_format
from ...http.router import Endpoint
from ...operations.padding import Size
from ...operations.runs import decode_runs
from ...operations.scaling import scaled, unscaled
from ...operations.session import Session
from .answers import ImagesAnswer, bytes_to_write, check_one_size, pixel_type, respond_with_images
from .bodies import read_latent_runs
from .openapi import latents_body, responses
from .parameters import LatentsAreScaled, PictureParameters, TileParameters

_SIZE = "([13]x)?[1-9][0-9]{0,4}x[1-9][0-9]{0,4}"


class DecodeParameters(TileParameters, PictureParameters):
    """The query of decode."""

    scaled: LatentsAreScaled = None
    quality: Annotated[
        Literal["full", "preview"], Field(description="preview: by the small model that the card names, which is quick")
    ] = "full"
    original_size: Annotated[
        str | None,
        Field(
            pattern=rf"^{_SIZE}(, ?{_SIZE})*$",
            description="cut the images to this size, such as 3x517x389, or each to its own, with commas between them: "
            "the X-Original-Size of encode with fit=pad",
        ),
    ] = None

    @property
    def sizes(self) -> list[Size]:
        """Height and width of the original images: of all, or of each; none where they are not cut."""
        texts = self.original_size.split(",") if self.original_size else []
        return [(int(height), int(width)) for *_, height, width in (text.split("x") for text in texts)]


async def answer(call: Call, session: Session, parameters: DecodeParameters) -> Response:
    """The image of each latent; several as one picture become a grid, row by row."""
    wanted = choose_format(parameters.format, call.headers.get("accept"), IMAGE_FORMATS)
    session.written_bytes = partial(bytes_to_write, wanted, session.config)
    session.tile_wish = parameters.tile_wish
    latents = await read_latent_runs(call, session, parameters.scaled)
    if wanted not in ("json", "safetensors"):
        check_one_size(latents)
    if parameters.quality == "preview":
        full, session = session, session.preview()
        for run in latents:
            full.limits.check_latent_shape(full.model, run.shape)
        latents = [unscaled(scaled(run, full.config.latent_scaling), session.config.latent_scaling) for run in latents]
    work = decode_runs(session, latents, sizes=parameters.sizes, pixel_type=pixel_type(wanted))
    images = await call.wait_for(work, "send fewer latents")
    return await respond_with_images(call, wanted, session, images, jpeg_quality=parameters.jpeg_quality)


ENDPOINT = Endpoint(
    name="decode",
    methods=("POST",),
    summary="latents → images",
    parameters=DecodeParameters,
    answer=answer,
    answer_schema=ImagesAnswer,
    responses=responses(IMAGE_FORMATS, reads_body=True),
    request_body=latents_body,
)
