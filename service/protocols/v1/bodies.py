"""The body of a request becomes pixels or latents, by its Content-Type.

A body is read once, within bounds of size and time. A large body is parsed in a thread.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import ParamSpec, TypeVar

import torch
from torch import Tensor

from model_store.pictures import Resize

from ...formats import pictures
from ...formats.multipart import MULTIPART, read_files
from ...formats.picture_structure import MEDIA_TYPES as PICTURES
from ...formats.pictures import Target
from ...formats.tensors import NPY, SAFETENSORS
from ...http.body import media_type_of
from ...http.call import Call
from ...offload import LIGHT_BYTES, offload
from ...operations.session import Session
from .array_bodies import read_any_array, read_image_array, read_latent_array
from .json_bodies import (
    JSON,
    ImagesBody,
    longest_answer_values,
    read_base64,
    read_json,
    read_json_latents,
    read_json_pair_latents,
)

IMAGE_BODIES = (*PICTURES.values(), MULTIPART, JSON, NPY, SAFETENSORS)
LATENT_BODIES = (JSON, NPY, SAFETENSORS)

# a picture can take sixteen times as long to open as other bytes to read: text in its header may be compressed
_OPENING_COST = 16
_DECODED_BYTES = 2  # for each value of an image: its pixels alone, and among the others

P = ParamSpec("P")
T = TypeVar("T")


async def read_images(call: Call, session: Session, resize: Resize) -> Tensor:
    """Pixels uint8 (B, C, H, W) in the model's shape.

    Raises:
        UnsupportedMediaType, UnsupportedEncoding: the body is in another format.
        TooLarge, MemoryFull, QueueFull: the body or the images are too many for a limit, or for now.
        MalformedBody, BadImage, BadValue, WrongShape: the body cannot be used; the message says why.
        BodyTimeout, DeadlineExceeded, ClientGone: the time is over, or the client has hung up.
    """
    with call.timings.measure("read"), call.body_memory.reserve(call.client) as reservation:
        content_type, body = await call.read_body(IMAGE_BODIES, reservation)
        if (media_type := media_type_of(content_type)) in (NPY, SAFETENSORS):
            target = _target(session, resize)
            images = await _parse(call, len(body), read_image_array, media_type, body, target)
            return await _fit_array(call, session, images, target)
        return await _decode_pictures(call, session, content_type, body, resize)


async def read_latents(call: Call, session: Session) -> Tensor:
    """Latents float32 (B, …), not yet compared with the model.

    Raises:
        the errors of `read_images`, except BadImage and WrongShape.
    """
    with call.timings.measure("read"), call.body_memory.reserve(call.client) as reservation:
        content_type, body = await call.read_body(LATENT_BODIES, reservation)
        if (media_type := media_type_of(content_type)) != JSON:
            return await _parse(call, len(body), read_latent_array, media_type, body)
        return await _parse(call, len(body), read_json_latents, body, longest_answer_values(session))


async def read_pair(call: Call, session: Session, resize: Resize) -> Tensor:
    """Images or latents: pixels uint8 (B, C, H, W), or latents float32 (B, …).

    Raises:
        the errors of `read_images`.
    """
    with call.timings.measure("read"), call.body_memory.reserve(call.client) as reservation:
        content_type, body = await call.read_body(IMAGE_BODIES, reservation)
        media_type = media_type_of(content_type)
        if media_type in (NPY, SAFETENSORS):
            latent_shape = session.model.card.model.latent_shape
            target = _target(session, resize)
            array = await _parse(call, len(body), read_any_array, media_type, body, latent_shape, target)
            return array if array.dtype != torch.uint8 else await _fit_array(call, session, array, target)
        if media_type == JSON:
            latents = await _parse(call, len(body), read_json_pair_latents, body, longest_answer_values(session))
            if latents is not None:
                return latents
        return await _decode_pictures(call, session, content_type, body, resize)


async def _parse(call: Call, size: int, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """The result of a function that works on `size` bytes.

    Work on many bytes is done in a thread, and given up when the client hangs up or the time is over.
    """
    if size <= LIGHT_BYTES:
        return function(*args, **kwargs)
    return await call.wait_for(offload(size, function, *args, **kwargs))


async def _fit_array(call: Call, session: Session, images: Tensor, target: Target) -> Tensor:
    session.admit(len(images), latents=0, value_bytes=_DECODED_BYTES)
    pictures.check_array(images.shape, target)
    session.check_room(len(images))
    return torch.from_numpy(await _parse(call, images.nbytes, pictures.fit, images.numpy(), target))


async def _decode_pictures(call: Call, session: Session, content_type: str, body: bytes, resize: Resize) -> Tensor:
    max_images, max_values = session.limits.images, longest_answer_values(session)
    contents = await _parse(call, len(body), read_picture_files, content_type, body, max_images, max_values)
    target, size = _target(session, resize), sum(map(len, contents))
    opened = await _parse(call, size * _OPENING_COST, pictures.open_all, contents, target)
    session.check_room(len(opened))
    session.admit(len(opened), latents=0, value_bytes=_DECODED_BYTES)
    cost = max(size, sum(picture.pixels for picture in opened))
    return torch.from_numpy(await _parse(call, cost, pictures.decode, opened, target))


def _target(session: Session, resize: Resize) -> Target:
    model, limits = session.model, session.limits
    return Target(model.version, model.card.model.image_shape, resize, limits.picture_pixels, limits.pixels)


def read_picture_files(content_type: str, body: bytes, max_images: int, max_values: int) -> list[bytes]:
    """The encoded pictures of a body: the body itself, or the pictures of a multipart form or of JSON.

    Raises:
        TooLarge: there are more than `max_images`, or JSON of more than `max_values`.
        MalformedBody, BadImage, BadValue: the form, the base64 or the JSON cannot be read.
    """
    media_type = media_type_of(content_type)
    if media_type == MULTIPART:
        return read_files(content_type, body, max_images)
    if media_type == JSON:
        return read_base64(read_json(ImagesBody, body, max_values).images, max_images)
    return [body]
