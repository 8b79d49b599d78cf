"""The body of a request becomes pixels or latents, by its Content-Type.

A body is read once, within bounds of size and time. A large array is read in a thread; large pictures and JSON are read
in a process.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import accumulate
from math import prod
from operator import mul
from typing import ParamSpec, TypeVar

import torch
from torch import Tensor

from model_store.pictures import Pixels, Resize

from ...formats import pictures
from ...formats.multipart import MULTIPART
from ...formats.picture_structure import MEDIA_TYPES as PICTURES
from ...formats.target import Target
from ...formats.tensors import NPY, SAFETENSORS
from ...http.body import media_type_of
from ...http.call import Call
from ...offload import (
    LIGHT_ARRAY_BYTES,
    LIGHT_BYTES,
    LIGHT_PICTURE_BYTES,
    LIGHT_PICTURE_COST,
    LIGHT_VALUES,
    offload,
)
from ...operations.session import Session
from .array_bodies import read_any_array, read_image_array, read_latent_array
from .json_bodies import ANSWER_MEMBERS, JSON, JSON_VALUE_BYTES, Allowed, read_json_latents, read_json_pair_latents
from .picture_bodies import read_json_pair, read_picture_files, read_pictures

IMAGE_BODIES = (*PICTURES.values(), MULTIPART, JSON, NPY, SAFETENSORS)
LATENT_BODIES = (JSON, NPY, SAFETENSORS)

_DECODED_BYTES = 2  # for each value of an image: its pixels alone, and among the others

P = ParamSpec("P")
T = TypeVar("T")


async def read_images(call: Call, session: Session, resize: Resize) -> Tensor:
    """Pixels uint8 (B, C, H, W) in the model's shape.

    Raises:
        UnsupportedMediaType, UnsupportedEncoding: the body is in another format.
        TooLarge, MemoryExceeded: the body or the images are too many for a limit.
        MemoryFull, QueueFull, ProcessesBusy, ProcessLost: the service has no room for them now.
        MalformedBody, BadImage, BadValue, WrongShape: the body cannot be used; the message says why.
        BodyTimeout, DeadlineExceeded, ClientGone: the time is over, or the client has hung up.
    """
    with call.timings.measure("read"), call.body_memory.reserve(call.client) as reservation:
        content_type, body = await call.read_body(IMAGE_BODIES, reservation)
        target = _target(session, resize)
        if (media_type := media_type_of(content_type)) in (NPY, SAFETENSORS):
            images = await _in_thread(call, len(body), read_image_array, media_type, body, target)
            return await _fit_array(call, session, images, target)
        return torch.from_numpy(await _decode_pictures(call, session, content_type, body, target))


async def read_latents(call: Call, session: Session) -> Tensor:
    """Latents float32 (B, …), not yet compared with the model.

    Raises:
        the errors of `read_images`, except BadImage and WrongShape.
    """
    with call.timings.measure("read"), call.body_memory.reserve(call.client) as reservation:
        content_type, body = await call.read_body(LATENT_BODIES, reservation)
        if (media_type := media_type_of(content_type)) != JSON:
            return await _in_thread(call, len(body), read_latent_array, media_type, body)
        is_light = len(body) <= LIGHT_BYTES
        return torch.from_numpy(await _in_process(call, is_light, read_json_latents, body, _allowed(session)))


async def read_pair(call: Call, session: Session, resize: Resize) -> Tensor:
    """Images or latents: pixels uint8 (B, C, H, W), or latents float32 (B, …).

    Raises:
        the errors of `read_images`.
    """
    with call.timings.measure("read"), call.body_memory.reserve(call.client) as reservation:
        content_type, body = await call.read_body(IMAGE_BODIES, reservation)
        media_type, target = media_type_of(content_type), _target(session, resize)
        if media_type in (NPY, SAFETENSORS):
            latent_shape = session.model.card.model.latent_shape
            array = await _in_thread(call, len(body), read_any_array, media_type, body, latent_shape, target)
            return array if array.dtype != torch.uint8 else await _fit_array(call, session, array, target)
        if media_type == JSON and len(body) > LIGHT_BYTES:
            return torch.from_numpy(await call.read_in_process(read_json_pair, body, target, _allowed(session)))
        if media_type == JSON:
            latents = read_json_pair_latents(body, _allowed(session))
            if latents is not None:
                return torch.from_numpy(latents)
        return torch.from_numpy(await _decode_pictures(call, session, content_type, body, target))


async def _in_thread(call: Call, size: int, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """The result of a function that reads an array of `size` bytes.

    Work that is not light is given up when the client hangs up or the time is over; so it is in `_in_process`.
    """
    if size <= LIGHT_ARRAY_BYTES:
        return function(*args, **kwargs)
    return await call.wait_for(offload(size, function, *args, **kwargs))


async def _in_process(call: Call, is_light: bool, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """The result of a function that reads JSON or pictures, called in place if that is light, else in a process."""
    if is_light:
        return function(*args, **kwargs)
    return await call.read_in_process(function, *args, **kwargs)


async def _fit_array(call: Call, session: Session, images: Tensor, target: Target) -> Tensor:
    session.admit(len(images), latents=0, value_bytes=_DECODED_BYTES)
    pictures.check_array(images.shape, target)
    session.check_room(len(images))
    if images.shape[1:] == target.image_shape:
        return images
    is_light = max(images.numel(), len(images) * prod(target.image_shape)) <= LIGHT_VALUES
    return torch.from_numpy(await _in_process(call, is_light, pictures.fit, images.numpy(), target))


async def _decode_pictures(call: Call, session: Session, content_type: str, body: bytes, target: Target) -> Pixels:
    allowed = _allowed(session)
    is_one_picture = media_type_of(content_type) in PICTURES.values()
    if len(body) <= (LIGHT_PICTURE_BYTES if is_one_picture else LIGHT_BYTES):
        target_pixels = prod(target.image_shape[1:])
        structures = pictures.inspect_all(read_picture_files(content_type, body, allowed), target)
        session.check_room(len(structures))
        session.admit(len(structures), latents=0, value_bytes=_DECODED_BYTES)
        if sum(max(structure.cost, target_pixels) for structure in structures) <= LIGHT_PICTURE_COST:
            return pictures.decode(structures, target)
    session.check_room(1)  # the body may hold more, but that is not known before it is read
    pixels = await call.read_in_process(read_pictures, content_type, body, target, allowed)
    session.admit(len(pixels), latents=0, value_bytes=_DECODED_BYTES)
    return pixels


def _target(session: Session, resize: Resize) -> Target:
    model, limits = session.model, session.limits
    return Target(model.version, model.card.model.image_shape, resize, limits.picture_pixels, limits.pixels)


def _allowed(session: Session) -> Allowed:
    """Bounds of the body. JSON may be as long as the longest that the service answers to one request.

    Encode answers three arrays of latents; the other operations answer a few values for each image.
    """
    limits, config = session.limits, session.model.card.model
    numbers_and_lists = sum(accumulate(config.latent_shape, mul, initial=1))
    values = min(limits.images * (3 * numbers_and_lists + 3), limits.answer_bytes // JSON_VALUE_BYTES)
    # so that a body of a few bytes does not become more pixels than the request may have
    image_bytes = _DECODED_BYTES * prod(config.image_shape) + session.written_bytes
    images = min(limits.images, limits.pixels // prod(config.image_shape[1:]), limits.answer_bytes // image_bytes)
    return Allowed(max(1, images), values, frozenset(ANSWER_MEMBERS))
