"""Decode: the bytes of latents → a picture, or the bytes of images."""

from __future__ import annotations

from functools import partial
from math import prod
from typing import Annotated, Literal

import torch
from pydantic import Field
from starlette.responses import Response
from torch import Tensor

from model_store.vae.family import ImageShape

from ...errors import BadValue
from ...formats import pictures
from ...formats.picture_structure import MEDIA_TYPES, PictureFormat
from ...formats.raw_tensors import check_length
from ...http.body import media_type_of
from ...http.call import Call
from ...http.router import Endpoint
from ...offload import LIGHT_VALUES, offload
from ...operations.decode import decode
from ...operations.session import PixelType, Session
from .answers import TENSOR, WRITTEN_COPIES, documented, documented_body, make_response, respond_with_tensor
from .latents import Layout, layout_of, read_latents
from .query import RemoteParameters, SentTensor

Form = Literal["picture", "pixels", "unit", "signed"]
"""An answer: an encoded picture, uint8 (B, H, W, C), floats in [0, 1], or floats in [−1, 1], both (B, C, H, W)."""

_PICTURE_FORMATS: dict[str, PictureFormat] = {"jpg": "jpeg", "png": "png"}
_RGB = 3  # channels of the images that clients make pictures of

Side = Annotated[int, Field(ge=0, le=2**31 - 1)]


class DecodeParameters(RemoteParameters):
    """The query of decode."""

    output_type: Annotated[
        Literal["pil", "pt", "mp4"],
        Field(description="pil: a picture, or floats in [0, 1] if Accept is tensor/binary; pt: a tensor; mp4: refused"),
    ] = "pil"
    image_format: Annotated[Literal["jpg", "png"], Field(description="of a picture")] = "jpg"
    partial_postprocess: Annotated[
        bool, Field(description="pt: uint8 (B, H, W, C) instead of floats (B, C, H, W) in [−1, 1]")
    ] = False
    height: Annotated[Side | None, Field(description="of the image: needed for the packed latents of Flux")] = None
    width: Annotated[Side | None, Field(description="of the image, beside height")] = None

    def form(self, accept: str) -> Form:
        """The form of the answer that the client reads."""
        if self.output_type == "pt":
            return "pixels" if self.partial_postprocess else "signed"
        # A client that makes a list of pictures itself (diffusers with a processor) asks for a tensor in Accept alone.
        return "unit" if TENSOR in map(media_type_of, accept.split(",")) else "picture"


async def answer(call: Call, session: Session, parameters: DecodeParameters) -> Response:
    """The image of each latent, as `diffusers.utils.remote_utils.remote_decode` reads it.

    The body has the bytes of a tensor and nothing else. Latents of Flux may be packed, and a single latent may be
    without the axis of the batch.
    """
    if parameters.output_type == "mp4":
        raise BadValue("The output_type mp4 is a video, but latentd serves images; ask for output_type=pil or pt.")
    form, sent = parameters.form(call.headers.get("accept", "")), parameters.sent_tensor()
    layout = layout_of(sent.shape, session.config, parameters.height, parameters.width)
    image_shape = session.limits.check_latent_shape(session.model, layout.shape)  # all before the body is read
    if form == "picture" and layout.shape[0] > 1:
        raise BadValue(
            f"The {layout.shape[0]} latents cannot be answered as one {parameters.image_format}; send each in a "
            "request of its own, or ask for output_type=pt with partial_postprocess=True."
        )
    session.written_bytes = partial(bytes_to_write, form, _PICTURE_FORMATS[parameters.image_format])
    latents = await _read(call, session, parameters, sent, layout, image_shape)
    pixel_type: PixelType = "uint8" if form in ("picture", "pixels") else "float32"
    images = await call.wait_for(decode(session, latents, pixel_type=pixel_type), "send fewer latents")
    if form == "picture":
        return await _respond_with_picture(call, session, images, _PICTURE_FORMATS[parameters.image_format])
    return await respond_with_tensor(session, images.nbytes, partial(formed, form, images, sent.answer_dtype))


async def _read(
    call: Call,
    session: Session,
    parameters: DecodeParameters,
    sent: SentTensor,
    layout: Layout,
    image_shape: ImageShape,
) -> Tensor:
    scaling = parameters.scaling(session.config.latent_scaling)
    with call.timings.measure("read"), call.body_memory.reserve(call.client) as reservation:
        _, body = await call.read_body(None, reservation)
        check_length(TENSOR, len(body), *sent)
        session.admit(layout.shape[0], image_shape, latents=4, value_bytes=0)
        return await call.wait_for(offload(len(body), read_latents, body, sent, layout, scaling))


async def _respond_with_picture(
    call: Call, session: Session, images: Tensor, picture_format: PictureFormat
) -> Response:
    pixels = images.numpy()
    with call.timings.measure("write"):
        if pixels.size <= LIGHT_VALUES:
            content = pictures.encode(pixels, picture_format)
        else:
            content = await call.write_in_process(pictures.encode, pixels, picture_format)
    return make_response(session, content, MEDIA_TYPES[picture_format])


def formed(form: Form, images: Tensor, dtype: torch.dtype) -> Tensor:
    """The tensor of an answer, from images (B, C, H, W) in [0, 1] or uint8.

    Clients make pictures of `pixels` and of `unit` with Pillow, which takes three channels and not one.
    """
    if form == "signed":
        return images.mul(2).sub_(1).to(dtype)
    images = images.expand(-1, _RGB, -1, -1)
    return images.permute(0, 2, 3, 1).contiguous() if form == "pixels" else images.to(dtype)


def bytes_to_write(form: Form, picture_format: PictureFormat, image_shape: ImageShape, count: int) -> int:
    """Memory to write the answer about each of `count` images (C, H, W), in bytes: an upper bound."""
    if form == "picture":
        return pictures.bytes_to_encode(picture_format, image_shape, count)
    values = max(image_shape[0], _RGB) * prod(image_shape[1:])
    return WRITTEN_COPIES * values * (1 if form == "pixels" else 4)


ENDPOINT = Endpoint(
    name="remote/decode",
    methods=("POST",),
    summary="latents → images",
    parameters=DecodeParameters,
    answer=answer,
    answer_schema=None,
    responses=documented("image/jpeg", "image/png", TENSOR),
    request_body=partial(documented_body, TENSOR),
)
