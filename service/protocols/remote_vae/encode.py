"""Encode: a picture, or the bytes of images → the bytes of latents."""

from __future__ import annotations

from functools import partial
from math import prod
from typing import Annotated

import torch
from pydantic import Field
from starlette.responses import Response
from torch import Tensor

from model_store.families import ModelConfig
from model_store.pictures import Pixels, Resize
from model_store.vae.family import ImageShape
from model_store.vae.scaling import Scaling

from ...errors import BadValue, WrongShape
from ...formats import pictures
from ...formats.picture_structure import MEDIA_TYPES
from ...formats.raw_tensors import check_length, read_raw
from ...formats.target import Target
from ...http.answer_headers import ORIGINAL_SIZE, original_sizes
from ...http.call import Call
from ...http.router import Endpoint
from ...offload import LIGHT_PICTURE_BYTES, LIGHT_VALUES, offload
from ...operations.encode import encode
from ...operations.limits import check_range
from ...operations.padding import Fit, are_padded
from ...operations.runs import fitted, shapes_of
from ...operations.scaling import scaled
from ...operations.sent_images import admit_array, admit_read, decode_if_light, target_of
from ...operations.session import Session
from .answers import NO_HEADERS, TENSOR, WRITTEN_COPIES, documented, documented_body, respond_with_tensor
from .query import RemoteParameters, SentTensor

# Images that a client has resized may have values a little outside; images in [0, 255] must not be taken for white.
_LARGEST_VALUE = 1.1
CONVERTED_BYTES = 4  # for each value of a tensor, while it is float32


class EncodeParameters(RemoteParameters):
    """The query of encode."""

    resize: Annotated[
        Resize, Field(description="for images of sides that the model does not take: contain, cover or stretch")
    ] = "none"
    fit: Annotated[Fit, Field(description="pad: repeat the edge up to the next size that the model takes")] = "none"


async def answer(call: Call, session: Session, parameters: EncodeParameters) -> Response:
    """The latent of each image, as `diffusers.utils.remote_utils.remote_encode` reads it: the posterior's mean.

    The body is a PNG, JPEG or WebP, with any Content-Type. If the query has a shape, it is the bytes of a tensor
    (B, C, H, W) or (C, H, W) in [−1, 1], whose values are rounded to the 256 levels of a pixel.
    """
    session.check_can("encode")
    session.written_bytes = partial(bytes_to_write, session.config)
    target = target_of(session, parameters.resize, parameters.fit)
    if parameters.shape is None:
        pixels, dtype = await _read_picture(call, session, target), torch.float32
    else:
        sent = parameters.sent_tensor()
        pixels, dtype = await _read_tensor(call, session, sent, target), sent.answer_dtype
    encoding = await call.wait_for(encode(session, await fitted(session, pixels)))
    scaling = parameters.scaling(session.config.latent_scaling)
    latents = encoding.latents
    padding = original_sizes(shapes_of([pixels])) if are_padded(parameters.fit, session.config) else NO_HEADERS
    return await respond_with_tensor(session, latents.nbytes, partial(scaled_latents, latents, scaling, dtype), padding)


async def _read_picture(call: Call, session: Session, target: Target) -> Tensor:
    """Pixels uint8 (1, C, H, W) of the picture that is the body."""
    with call.timings.measure("read"), call.body_memory.reserve(call.client) as reservation:
        _, body = await call.read_body(None, reservation)
        if len(body) <= LIGHT_PICTURE_BYTES and (decoded := decode_if_light(session, [body], target)) is not None:
            return torch.from_numpy(decoded[0])
        session.check_room(1)
        pixels: Pixels = await call.read_in_process(pictures.read_one, body, target)
        _, channels, height, width = pixels.shape
        admit_read(session, [((channels, height, width), 1)])
        return torch.from_numpy(pixels)


async def _read_tensor(call: Call, session: Session, sent: SentTensor, target: Target) -> Tensor:
    """Pixels uint8 (B, C, H, W) of the tensor that is the body."""
    shape = images_shape(sent, session)
    pictures.check_array(shape, target)  # before the body is read
    with call.timings.measure("read"), call.body_memory.reserve(call.client) as reservation:
        _, body = await call.read_body(None, reservation)
        check_length(TENSOR, len(body), *sent)
        admit_array(session, shape, target, value_bytes=CONVERTED_BYTES)
        pixels = await call.wait_for(offload(len(body), read_pixels, body, sent, shape))
        fitted_shape = target.shape_of(*shape[2:])
        if pixels.shape[1:] == fitted_shape:
            return pixels
        if max(pixels.numel(), shape[0] * prod(fitted_shape)) <= LIGHT_VALUES:
            return torch.from_numpy(pictures.fit(pixels.numpy(), target))
        return torch.from_numpy(await call.read_in_process(pictures.fit, pixels.numpy(), target))


def images_shape(sent: SentTensor, session: Session) -> tuple[int, int, int, int]:
    """The shape (B, C, H, W) of images, which may have been sent without the axis B.

    Raises:
        WrongShape: the tensor has other dimensions, or other channels than the model's images.
    """
    expected = session.config.image_shape
    count, channels, height, width = (
        (1,) * (4 - len(sent.shape)) + sent.shape if len(sent.shape) in (3, 4) else (0,) * 4
    )
    if channels != expected[0]:
        raise WrongShape(
            "The tensor of images is",
            got=sent.shape,
            model=session.model.version,
            expected=(None, *expected),
            remedy="send images (B, C, H, W) with values in [-1, 1]",
        )
    return count, channels, height, width


def read_pixels(body: bytes, sent: SentTensor, shape: tuple[int, int, int, int]) -> Tensor:
    """Pixels uint8 (B, C, H, W) from a body of the right length, whose values are in [−1, 1].

    Raises:
        BadValue: a value is not a number, or far outside.
    """
    images = read_raw(body, shape, sent.dtype).to(torch.float32)
    remedy = "send images in [-1, 1], as VaeImageProcessor.preprocess of diffusers gives them"
    check_range(images, -_LARGEST_VALUE, _LARGEST_VALUE, "An image", remedy)
    # as `to_pixels`, but in place: bodies have no memory for a copy more
    return images.add_(1).mul_(127.5).round_().clamp_(0, 255).to(torch.uint8)


def scaled_latents(latents: Tensor, scaling: Scaling, dtype: torch.dtype) -> Tensor:
    """Latents as other programs exchange them.

    Raises:
        BadValue: they do not fit into the type.
    """
    converted = scaled(latents, scaling).to(dtype)
    if not all(extreme.isfinite() for extreme in converted.aminmax()):  # `isfinite` of all values copies them
        name = str(dtype).removeprefix("torch.")
        raise BadValue(f"The scaled latents are too large for {name}; send a smaller scaling_factor, or float32.")
    return converted


def bytes_to_write(config: ModelConfig, image_shape: ImageShape, _count: int) -> int:
    """Memory to write the answer about each image, in bytes: an upper bound."""
    return WRITTEN_COPIES * 4 * prod(config.latent_shape_of(image_shape))


ENDPOINT = Endpoint(
    name="remote/encode",
    methods=("POST",),
    summary="images → latents",
    parameters=EncodeParameters,
    answer=answer,
    answer_schema=None,
    responses=documented(TENSOR, more=(ORIGINAL_SIZE,)),
    request_body=partial(documented_body, *MEDIA_TYPES.values(), TENSOR),
)
