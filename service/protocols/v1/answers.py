"""The answers that operations share: their JSON, and their bytes in each format, with the headers that belong to them.

Field names are part of the HTTP contract (docs/api.md).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import accumulate
from math import prod
from operator import mul
from typing import Annotated, Any, ParamSpec

import torch
from pydantic import BaseModel, Field
from starlette.responses import Response
from torch import Tensor

from model_store.families import ModelConfig
from model_store.vae.family import ImageShape
from model_store.vae.pixels import to_pixels

from ...errors import SeveralSizes
from ...formats import pictures, tensors
from ...http.answer_headers import computed_headers
from ...http.call import Call
from ...http.negotiation import MEDIA_TYPES, Format
from ...offload import LIGHT_VALUES, offload
from ...operations.session import PixelType, Session
from . import answer_bytes
from .json_bodies import ANSWER_MEMBERS, JSON_VALUE_BYTES

_SLOWNESS = {"webp": 64}  # how many times longer than the others a format takes to be written

# Memory that writing takes at its peak, as tests/service/protocols/v1/test_memory.py measures it with random pixels.
_BASE64_BYTES = 9  # for each value of an image
_ARRAY_COPIES = 3  # of the numbers in npy and safetensors
_IMAGE_BYTES = 1024  # for each image: the head of a PNG, and short members

Runs = Sequence[Tensor]
"""Images or latents: a tensor (B, …) for each run of the same shape, in the order of the request."""

NO_HEADERS: Mapping[str, str] = {}

P = ParamSpec("P")

VersionNumber = Annotated[int, Field(ge=1, le=999_999_999)]


class Answer(BaseModel):
    """JSON about one version of a model."""

    model: str
    version: VersionNumber


class OperationAnswer(Answer):
    """The JSON of an operation."""

    @classmethod
    def __pydantic_init_subclass__(cls, **_: Any) -> None:
        """Add the members of a new operation's answer to those that bodies ignore."""
        ANSWER_MEMBERS.update(cls.model_fields)


class ImagesAnswer(OperationAnswer):
    """Images as base64 PNG."""

    images: list[str]


def pixel_type(wanted: Format) -> PixelType:
    """The type of the images in a format."""
    return "float32" if wanted == "safetensors" else "uint8"


def bytes_to_write(
    wanted: Format,
    config: ModelConfig,
    image_shape: ImageShape,
    count: int,
    *,
    latents: int = 0,
    has_images: bool = True,
) -> int:
    """Memory to write the answer about each of `count` images: bytes, an upper bound, known before they are computed.

    The answer has that number of arrays of latents, where its format has any, and images unless `has_images` is false.
    """
    latent_shape = config.latent_shape_of(image_shape)
    numbers, values = prod(latent_shape), has_images * prod(image_shape)
    if wanted == "npy":
        return _ARRAY_COPIES * (values if has_images else 4 * numbers)
    if wanted == "safetensors":
        return _ARRAY_COPIES * 4 * (values + latents * numbers)
    if wanted == "json":
        numbers_and_lists = sum(accumulate(latent_shape, mul, initial=1))
        # as much as to read them: an answer that can be given can be sent back
        return _IMAGE_BYTES + _BASE64_BYTES * values + latents * JSON_VALUE_BYTES * numbers_and_lists
    return pictures.bytes_to_encode(wanted, image_shape, count)


async def respond_with_images(
    call: Call,
    wanted: Format,
    session: Session,
    runs: Runs,
    *,
    columns: int | None = None,
    jpeg_quality: int = pictures.JPEG_QUALITY,
    seed: int | None = None,
    more: Mapping[str, Any] | None = None,
    headers: Mapping[str, str] = NO_HEADERS,
) -> Response:
    """Images in the wanted format: one picture shows several images in a grid of `columns`.

    A JSON answer also has the members `more`; safetensors has the latents among them.

    Raises:
        SeveralSizes: the images have several sizes, and the format has room for one.
        DeadlineExceeded, MemoryExceeded, ProcessesBusy, ProcessLost: the answer is too large, or is so now.
    """
    with session.timings.measure("write"):
        content = await _write_images(call, wanted, session, runs, columns, jpeg_quality, more or {})
    return make_response(wanted, session, content, seed, headers)


async def _write_images(
    call: Call,
    wanted: Format,
    session: Session,
    runs: Runs,
    columns: int | None,
    jpeg_quality: int,
    more: Mapping[str, Any],
) -> bytes:
    """Images float32 in [0, 1] or uint8 (B, C, H, W) in the wanted format.

    Only safetensors keeps float32; the other formats have the images rounded to uint8.
    """
    size = sum(run.nbytes for run in runs)
    if wanted == "safetensors":
        latents = {"latents": more["latents"]} if "latents" in more else {}
        return await offload(size, tensors.write_safetensors, {**named_tensors("images", runs), **latents})
    if wanted != "json":
        check_one_size(runs)
    pixels = [run if run.dtype == torch.uint8 else await offload(run.nbytes, to_pixels, run) for run in runs]
    if wanted == "npy":
        return await offload(size, _write_npy, pixels[0])
    arrays = [run.numpy() for run in pixels]
    values = sum(array.size for array in arrays)
    if wanted == "json":
        members = json_members(session, more)
        return await _in_process(call, values + _values(more), answer_bytes.write_images_json, members, arrays)
    return await _in_process(
        call, values * _SLOWNESS.get(wanted, 1), pictures.encode, arrays[0], wanted, columns, jpeg_quality
    )


def check_one_size(runs: Runs) -> None:
    """Raise SeveralSizes if images or latents have several shapes, and the format of the answer has room for one."""
    if len(runs) > 1:
        raise SeveralSizes(runs[0].shape[2:], runs[1].shape[2:])


def named_tensors(name: str, runs: Runs) -> dict[str, Tensor]:
    """The tensor of safetensors, or one for each image, such as `latents.0`, where the shapes differ."""
    if len(runs) == 1:
        return {name: runs[0]}
    return {f"{name}.{index}": row for index, row in enumerate(row for run in runs for row in run)}


def one_or_each(runs: Runs) -> Tensor | list[Tensor]:
    """The member of JSON: one tensor, or one for each image where the shapes differ."""
    return runs[0] if len(runs) == 1 else [row for run in runs for row in run]


def _write_npy(pixels: Tensor) -> bytes:
    return tensors.write_npy(pixels.permute(0, 2, 3, 1).contiguous())


async def write_json(call: Call, session: Session, members: Mapping[str, Any]) -> bytes:
    """JSON about the session's model, with tensors as nested lists."""
    return await _in_process(call, _values(members), answer_bytes.write_json, json_members(session, members))


def json_members(session: Session, members: Mapping[str, Any]) -> dict[str, Any]:
    """The members of JSON about the session's model, with tensors as arrays."""
    version = session.model.version
    return {"model": version.name, "version": version.number} | {name: _array(each) for name, each in members.items()}


def _array(value: Any) -> Any:
    if isinstance(value, list):
        return [_array(each) for each in value]
    return value.numpy() if isinstance(value, Tensor) else value


def _values(members: Mapping[str, Any]) -> int:
    return sum(tensor.numel() for value in members.values() for tensor in _tensors(value))


def _tensors(value: Any) -> list[Tensor]:
    return [each for each in (value if isinstance(value, list) else [value]) if isinstance(each, Tensor)]


async def _in_process(
    call: Call, values: int, function: Callable[P, bytes], *args: P.args, **kwargs: P.kwargs
) -> bytes:
    """The bytes that a function writes of a number of values, in place if they are few, else in a process."""
    if values <= LIGHT_VALUES:
        return function(*args, **kwargs)
    return await call.write_in_process(function, *args, **kwargs)


def make_response(
    wanted: Format, session: Session, content: bytes, seed: int | None, more: Mapping[str, str] = NO_HEADERS
) -> Response:
    """The response with its headers, and `more`; the seed is told where something was drawn."""
    session.memory.shrink_to(len(content))  # the tensors are not needed any more
    tiling, stages = session.grid and session.grid.text, session.timings.header()
    told = computed_headers(session.model.name, stages, tiling=tiling, precision=session.precision)
    headers = {**told, **more}
    if seed is not None:
        headers["X-Seed"] = str(seed)
    return Response(content, media_type=MEDIA_TYPES[wanted], headers=headers)
