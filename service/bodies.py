"""A request's body, by its Content-Type: pictures or arrays to pixels, numbers to latents.

The body is read once, within bounds of size and time, and parsed aside from the event loop when it is large.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Mapping
from itertools import accumulate, chain
from operator import mul
from typing import Any, ParamSpec, TypeVar

import torch
from pydantic import ValidationError
from starlette.requests import Request
from torch import Tensor

from model_store.pictures import Resize
from model_store.vae.record import problems

from . import images, tensors
from .aside import LIGHT_BYTES, aside
from .body_memory import Share
from .call import Call
from .errors import (
    BadImage,
    BadValue,
    BodyTimeout,
    ClientGone,
    TooLarge,
    Unparseable,
    UnsupportedEncoding,
    UnsupportedMediaType,
)
from .images import Target
from .multipart import MULTIPART, read_files
from .schemas import ImagesBody, LatentsBody, PairBody
from .tensors import NPY, SAFETENSORS

JSON = "application/json"
IMAGE_BODIES = (*images.MEDIA_TYPES.values(), MULTIPART, JSON, NPY, SAFETENSORS)
LATENT_BODIES = (JSON, NPY, SAFETENSORS)

_OPENING = 16  # a byte of a header can take as long as so many others: it may unpack to a thousand
_FEW_VALUES = 65_536  # they take no time to speak of, so that the caller may as well be told what is wrong with them
_MOST_PROBLEMS = 100  # to tell one of them, all are written out
_LATENT_DTYPES = (torch.float32, torch.float16, torch.bfloat16)

Body = TypeVar("Body", ImagesBody, LatentsBody, PairBody)
P = ParamSpec("P")
T = TypeVar("T")


async def read_images(call: Call, resize: Resize) -> Tensor:
    """Pixels uint8 (B, C, H, W).

    Raises:
        UnsupportedMediaType, UnsupportedEncoding, TooLarge, Crowded, BodyTimeout, Unparseable, BadImage, BadValue,
        WrongShape, DeadlineExceeded: as they say.
    """
    with call.timings.measure("decode"), call.body_memory.share() as share:
        content_type, body = await _read(call, IMAGE_BODIES, share)
        if (media_type := _media_type(content_type)) in (NPY, SAFETENSORS):
            return await _aside(call, len(body), _pixels_of_array, media_type, body)
        return await _decoded(call, await _pictures_of(call, content_type, body), resize)


async def read_latents(call: Call) -> Tensor:
    """Latents float32 (B, …), not yet compared with any model.

    Raises:
        UnsupportedMediaType, UnsupportedEncoding, TooLarge, Crowded, BodyTimeout, Unparseable, BadValue,
        DeadlineExceeded: as they say.
    """
    with call.timings.measure("decode"), call.body_memory.share() as share:
        content_type, body = await _read(call, LATENT_BODIES, share)
        return await _aside(call, len(body), _latents, _media_type(content_type), body, _most_values(call))


async def read_pair(call: Call, resize: Resize) -> Tensor:
    """Images or latents, whichever the body holds: pixels uint8 (B, C, H, W), or latents float32 (B, …).

    Raises:
        what `read_images` and `read_latents` raise.
    """
    with call.timings.measure("decode"), call.body_memory.share() as share:
        content_type, body = await _read(call, IMAGE_BODIES, share)
        if (media_type := _media_type(content_type)) in (NPY, SAFETENSORS):
            return await _aside(call, len(body), _pixels_or_latents, media_type, body)
        if media_type == JSON:
            latents = await _aside(call, len(body), _latents_of_pair, body, _most_values(call))
            if latents is not None:
                return latents
        return await _decoded(call, await _pictures_of(call, content_type, body), resize)


async def _pictures_of(call: Call, content_type: str, body: bytes) -> list[bytes]:
    return await _aside(call, len(body), _pictures, content_type, body, call.settings.max_images_per_request)


async def _decoded(call: Call, contents: list[bytes], resize: Resize) -> Tensor:
    settings, shape = call.settings, call.model.card.model.image_shape
    target = Target(call.model.version, shape, resize, settings.max_pixels, settings.max_request_pixels)
    size = sum(map(len, contents))
    opened = await _aside(call, size * _OPENING, images.open_all, contents, target)
    call.model.batcher.check_room(len(opened))
    return await _aside(call, max(size, sum(picture.pixels for picture in opened)), images.decode, opened, target)


async def _aside(call: Call, size: int, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """What the function gives; beside the event loop, and while somebody waits for it, if there are many bytes."""
    if size <= LIGHT_BYTES:
        return function(*args, **kwargs)
    return await call.wait_for(aside(size, function, *args, **kwargs))


def _pictures(content_type: str, body: bytes, max_images: int) -> list[bytes]:
    """The encoded pictures of a body."""
    media_type = _media_type(content_type)
    if media_type == MULTIPART:
        return read_files(content_type, body, max_images)
    if media_type == JSON:
        return _from_base64(_from_json(ImagesBody, body, 2 * max_images).images, max_images)
    return [body]


def _most_values(call: Call) -> int:
    """Numbers and lists in the JSON of as many latents as a request may hold."""
    numbers_and_lists = sum(accumulate(call.model.card.model.latent_shape, mul, initial=1))
    return call.settings.max_images_per_request * numbers_and_lists


def _latents(media_type: str, body: bytes, most_values: int = 0) -> Tensor:
    """Latents float32 (B, …) of a body, one at least."""
    if media_type == NPY:
        latents = tensors.read_npy(body, _LATENT_DTYPES[:2], "latents")
    elif media_type == SAFETENSORS:
        latents = tensors.read_safetensors(body, _LATENT_DTYPES, "latents")
    else:
        latents = _numbers(_from_json(LatentsBody, body, most_values).latents)
    if not latents.numel():
        raise BadValue("The latents are empty; send at least one.")
    return latents.float()


def _pixels_or_latents(media_type: str, body: bytes) -> Tensor:
    """Whichever an array holds, by its type or name."""
    is_images = tensors.holds_images(media_type, body)
    return _pixels_of_array(media_type, body) if is_images else _latents(media_type, body)


def _latents_of_pair(body: bytes, most_values: int) -> Tensor | None:
    """The latents of a JSON body, or None where it holds images."""
    pair = _from_json(PairBody, body, most_values)
    return None if pair.latents is None else _numbers(pair.latents).float()


def _media_type(content_type: str) -> str:
    return content_type.partition(";")[0].strip().lower()


def _content_type(headers: Mapping[str, str], allowed: tuple[str, ...]) -> str:
    content_type = headers.get("content-type", "")
    if _media_type(content_type) not in allowed:
        raise UnsupportedMediaType(_media_type(content_type), allowed)
    if headers.get("content-encoding", "identity").lower() != "identity":
        raise UnsupportedEncoding
    return content_type


async def _read(call: Call, allowed: tuple[str, ...], share: Share) -> tuple[str, bytes]:
    """Content-Type and content of a body of one of the `allowed` types."""
    content_type = _content_type(call.headers, allowed)
    declared, limit = call.headers.get("content-length", ""), call.settings.max_body_bytes
    if declared.isdecimal() and int(declared) > limit:
        raise TooLarge("The body", size=int(declared), limit=limit, unit="bytes")
    limit_s = call.settings.body_timeout_s
    return content_type, await call.deadlines.keep(_content(call.request, limit, share), limit_s, BodyTimeout(limit_s))


async def _content(request: Request, limit: int, share: Share) -> bytes:
    """The body, refused as soon as it is known to be too large."""
    parts: list[bytes] = []
    size, is_more = 0, True
    while is_more:
        message = await request.receive()
        if message["type"] == "http.disconnect":
            raise ClientGone
        parts.append(message.get("body", b""))
        size, is_more = size + len(parts[-1]), message.get("more_body", False)
        if size > limit:
            raise TooLarge("The body", size=None, limit=limit, unit="bytes")
        share.take(len(parts[-1]))
    return b"".join(parts)


def _from_json(model: type[Body], body: bytes, most_values: int) -> Body:
    _check_values(body, max(most_values, _FEW_VALUES))
    try:
        return model.model_validate_json(body)
    except ValidationError as error:
        if error.error_count() > _MOST_PROBLEMS:
            raise BadValue(f"The body has more than {_MOST_PROBLEMS} wrong fields; send images or latents.") from error
        if error.errors(include_url=False, include_context=False, include_input=False)[0]["type"] == "json_invalid":
            raise Unparseable(JSON, "it is not JSON, or nested too deeply") from error
        raise BadValue(f"The body cannot be used: {problems(error, model)[0]}.") from error


def _check_values(body: bytes, limit: int) -> None:
    """Refuse JSON that would become far more objects than are meant, before it does.

    Each value but the first has a comma before it, or a bracket that ends what it is in.
    """
    if len(body) > limit and (count := sum(map(body.count, b",]}"))) > limit:
        raise TooLarge("The body", size=count, limit=limit, unit="values")


def _from_base64(texts: list[str], max_images: int) -> list[bytes]:
    if len(texts) > max_images:
        raise TooLarge("The body", size=len(texts), limit=max_images, unit="images")
    return [_picture(text, number) for number, text in enumerate(texts, start=1)]


def _picture(text: str, number: int) -> bytes:
    if text.startswith(("http:", "https:", "file:", "ftp:")):
        raise BadImage(f"Picture {number}", "addresses are not fetched; send the picture itself, as base64")
    if text.startswith("data:"):
        text = text.partition(",")[2]
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise BadImage(f"Picture {number}", "it is no base64 and no data: URI") from error


def _pixels_of_array(media_type: str, body: bytes) -> Tensor:
    """Pixels (B, C, H, W) from npy, which has channels last or none, or from safetensors, which has them first."""
    if media_type == SAFETENSORS:
        array, expected = tensors.read_safetensors(body, (torch.uint8,), "images"), "(B, C, H, W)"
    else:
        array, expected = tensors.read_npy(body, (torch.uint8,), "images"), "(B, H, W), (B, H, W, 1) or (B, H, W, 3)"
        array = array.unsqueeze(-1) if array.ndim == 3 else array
    channels = array.shape[1 if media_type == SAFETENSORS else -1] if array.ndim == 4 else 0
    if channels not in (1, 3) or not array.numel():
        raise BadValue(f"The images are {tuple(array.shape)}; expected {expected}, with one image at least.")
    return array if media_type == SAFETENSORS else array.permute(0, 3, 1, 2).contiguous()


def _numbers(nested: list[Any]) -> Tensor:
    """A tensor of evenly nested numbers. NumPy is not asked: of strings it makes an array as wide as the longest."""
    shape, level = [len(nested)], nested
    while level and isinstance(level[0], list):
        lengths = {len(inner) if isinstance(inner, list) else None for inner in level}
        if len(lengths) > 1:
            raise BadValue("The latents are nested unevenly; each needs the model's latent shape.")
        shape.append(len(level[0]))
        level = list(chain.from_iterable(level))
    if not all(type(number) in (int, float) for number in level):
        raise BadValue("The latents hold something that is no number.")
    try:
        return torch.tensor(level, dtype=torch.float64).view(shape)
    except (OverflowError, RuntimeError) as error:
        raise BadValue("The latents hold a number that is too large.") from error
