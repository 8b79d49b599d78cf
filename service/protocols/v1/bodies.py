"""The body of a request becomes pixels or latents, by its Content-Type.

A body is read once, within bounds of size and time. A large array is read in a thread; large pictures and JSON are read
in a process.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import accumulate, groupby
from math import prod
from operator import mul
from typing import ParamSpec, TypeVar

import torch
from torch import Tensor

from model_store.pictures import Pixels, Resize

from ...errors import SeveralSizes
from ...formats import pictures
from ...formats.latent_space import HEADER, LatentSpace, of_header, of_json
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
    LIGHT_VALUES,
    offload,
)
from ...operations.padding import Fit
from ...operations.scaling import unscaled
from ...operations.sent_images import DECODED_BYTES, admit_array, admit_read, decode_if_light, target_of
from ...operations.session import Session
from .array_bodies import read_any_array, read_image_array, read_latent_array
from .json_bodies import (
    ANSWER_MEMBERS,
    JSON,
    JSON_VALUE_BYTES,
    Allowed,
    ReadLatents,
    read_json_latents,
    read_json_pair_latents,
)
from .picture_bodies import read_json_pair, read_picture_files, read_pictures

IMAGE_BODIES = (*PICTURES.values(), MULTIPART, JSON, NPY, SAFETENSORS)
LATENT_BODIES = (JSON, NPY, SAFETENSORS)

P = ParamSpec("P")
T = TypeVar("T")


async def read_images(call: Call, session: Session, resize: Resize) -> Tensor:
    """Pixels uint8 (B, C, H, W), of one size that the model takes.

    Raises:
        BadValue: the images have several sizes.
        the other errors of `read_runs`.
    """
    return _of_one_size(await read_runs(call, session, resize))


async def read_runs(call: Call, session: Session, resize: Resize, fit: Fit = "none") -> list[Tensor]:
    """Pixels uint8 (B, C, H, W) for each run of images of the same size, in order.

    With `fit=pad` images keep their size, and it may be one that the model does not take.

    Raises:
        UnsupportedMediaType, UnsupportedEncoding: the body is in another format.
        TooLarge, MemoryExceeded: the body or the images are too many for a limit.
        MemoryFull, QueueFull, ProcessesBusy, ProcessLost: the service has no room for them now.
        MalformedBody, BadImage, BadValue, WrongShape: the body cannot be used; the message says why.
        BodyTimeout, DeadlineExceeded, ClientGone: the time is over, or the client has hung up.
    """
    with call.timings.measure("read"), call.body_memory.reserve(call.client) as reservation:
        content_type, body = await call.read_body(IMAGE_BODIES, reservation)
        target = target_of(session, resize, fit)
        if (media_type := media_type_of(content_type)) in (NPY, SAFETENSORS):
            arrays = await _in_thread(call, len(body), read_image_array, media_type, body, target)
            admit_read(session, ((target.shape_of(*images.shape[2:]), len(images)) for images in arrays))
            return merged([await _fit_array(call, session, images, target) for images in arrays])
        return [*map(torch.from_numpy, await _decode_pictures(call, session, content_type, body, target))]


async def read_latent_runs(call: Call, session: Session, scaled: bool | None) -> list[Tensor]:
    """Latents float32 (B, …) as the decoder reads them, for each run of the same shape, in order.

    The shapes are not yet compared with the model. `scaled` is the client's word on whether they are scaled; without
    it, the latents themselves say so.

    Raises:
        the errors of `read_images`, except BadImage and WrongShape.
    """
    with call.timings.measure("read"), call.body_memory.reserve(call.client) as reservation:
        content_type, body = await call.read_body(LATENT_BODIES, reservation)
        if (media_type := media_type_of(content_type)) != JSON:
            arrays = await _in_thread(call, len(body), read_latent_array, media_type, body)
            return _as_decoded(call, session, arrays.runs, arrays.space, scaled)
        is_light = len(body) <= LIGHT_BYTES
        read = await _in_process(call, is_light, read_json_latents, body, _allowed(session))
        return _of_json(call, session, read, scaled)


async def read_pair(call: Call, session: Session, resize: Resize, scaled: bool | None) -> Tensor:
    """Images or latents: pixels uint8 (B, C, H, W), or latents float32 (B, …) as the decoder reads them.

    Raises:
        the errors of `read_images`.
    """
    with call.timings.measure("read"), call.body_memory.reserve(call.client) as reservation:
        content_type, body = await call.read_body(IMAGE_BODIES, reservation)
        media_type, target = media_type_of(content_type), target_of(session, resize)
        if media_type in (NPY, SAFETENSORS):
            latent_shape = session.config.latent_shape
            arrays = await _in_thread(call, len(body), read_any_array, media_type, body, latent_shape, target)
            array = _of_one_size(arrays.runs)
            if array.dtype == torch.uint8:
                return await _fit_array(call, session, array, target)
            return _of_one_size(_as_decoded(call, session, arrays.runs, arrays.space, scaled))
        if media_type == JSON:
            is_large = len(body) > LIGHT_BYTES
            read = (
                await call.read_in_process(read_json_pair, body, target, _allowed(session))
                if is_large
                else read_json_pair_latents(body, _allowed(session))
            )
            if isinstance(read, tuple):
                return _of_one_size(_of_json(call, session, read, scaled))
            if read is not None:
                return _of_one_size([*map(torch.from_numpy, read)])
        pixels = await _decode_pictures(call, session, content_type, body, target)
        return _of_one_size([*map(torch.from_numpy, pixels)])


def _of_json(call: Call, session: Session, read: ReadLatents, scaled: bool | None) -> list[Tensor]:
    arrays, name, is_scaled = read
    return _as_decoded(call, session, [*map(torch.from_numpy, arrays)], of_json(name, is_scaled), scaled)


def _as_decoded(
    call: Call, session: Session, runs: Sequence[Tensor], space: LatentSpace, scaled: bool | None
) -> list[Tensor]:
    """Latents as the decoder reads them: of the model's space, and not scaled.

    Raises:
        BadValue: the parts of the request contradict each other.
        WrongLatentSpace: the latents are of another space.
    """
    declared = space.or_else(of_header(call.headers.get(HEADER.lower()))).or_else(LatentSpace(None, scaled))
    session.check_space(declared.name, runs[0].shape[1:])
    for run in runs:
        session.limits.check_latent_shape(session.model, run.shape)
    runs = merged(runs)
    return [unscaled(run, session.config.latent_scaling) if declared.is_scaled else run for run in runs]


def merged(runs: Sequence[Tensor]) -> list[Tensor]:
    """The runs, of which neighbours of the same shape have become one."""
    groups = [[*group] for _, group in groupby(runs, key=lambda run: run.shape[1:])]
    return [group[0] if len(group) == 1 else torch.cat(group) for group in groups]


def _of_one_size(runs: Sequence[Tensor]) -> Tensor:
    if len(runs) > 1:
        raise SeveralSizes(runs[0].shape[2:], runs[1].shape[2:])
    return runs[0]


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
    admit_array(session, images.shape, target)
    fitted = target.shape_of(*images.shape[2:])
    if images.shape[1:] == fitted:
        return images
    is_light = max(images.numel(), len(images) * prod(fitted)) <= LIGHT_VALUES
    return torch.from_numpy(await _in_process(call, is_light, pictures.fit, images.numpy(), target))


async def _decode_pictures(
    call: Call, session: Session, content_type: str, body: bytes, target: Target
) -> list[Pixels]:
    is_one_picture = media_type_of(content_type) in PICTURES.values()
    if len(body) <= (LIGHT_PICTURE_BYTES if is_one_picture else LIGHT_BYTES):
        files = [body] if is_one_picture else read_picture_files(content_type, body, _allowed(session))
        if (decoded := decode_if_light(session, files, target)) is not None:
            return decoded
    session.check_room(1)  # the body may hold more, but that is not known before it is read
    runs = await call.read_in_process(read_pictures, content_type, body, target, _allowed(session))
    channels = target.image_shape[0]
    admit_read(session, (((channels, *run.shape[2:]), len(run)) for run in runs))
    return runs


def _allowed(session: Session) -> Allowed:
    """Bounds of the body. JSON may be as long as the longest that the service answers to one request.

    Encode answers three arrays of latents; the other operations answer a few values for each image.
    """
    limits, smallest = session.limits, session.config.fitting_shape(1, 1)
    numbers_and_lists = sum(accumulate(session.config.latent_shape_of(smallest), mul, initial=1))
    fitting = limits.pixels // prod(smallest[1:])
    latents = fitting if session.config.takes_any_size else limits.images
    values = min(latents * (3 * numbers_and_lists + 3), limits.answer_bytes // JSON_VALUE_BYTES)
    # so that a body of a few bytes does not become more pixels than the request may have
    image_bytes = DECODED_BYTES * prod(smallest) + session.written_bytes(smallest, 1)
    images = min(limits.images, fitting, limits.answer_bytes // image_bytes)
    return Allowed(max(1, images), values, frozenset(ANSWER_MEMBERS), session.config.takes_any_size)
