"""A request's body, by its Content-Type: pictures or arrays to pixels, numbers to latents.

The body is read once, within bounds of size and time, and parsed in a thread when it is large.
"""

from __future__ import annotations

import base64
import binascii
from codecs import BOM_UTF8
from collections.abc import Callable
from itertools import accumulate, chain
from operator import mul
from typing import Annotated, Any, ParamSpec, Self, TypeVar

import torch
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from torch import Tensor

from model_store.pictures import FLOAT_TOLERANCE, Resize
from model_store.vae.pixels import to_pixels
from model_store.vae.record import validation_messages
from model_store.vae.sentences import unknown

from ...errors import (
    BadImage,
    BadValue,
    MalformedBody,
    TooLarge,
    about_row,
)
from ...formats import pictures, tensors
from ...formats.multipart import MULTIPART, read_files
from ...formats.pictures import Target
from ...formats.tensors import NPY, SAFETENSORS
from ...http.body import media_type_of
from ...http.call import Call
from ...offload import LIGHT_BYTES, offload
from ...operations.limits import check_range
from ...operations.session import Session
from .answers import ANSWER_MEMBERS, Nested

JSON = "application/json"
IMAGE_BODIES = (*pictures.MEDIA_TYPES.values(), MULTIPART, JSON, NPY, SAFETENSORS)
LATENT_BODIES = (JSON, NPY, SAFETENSORS)

_OPENING = 16  # a byte of a header can take as long as so many others: it may unpack to a thousand
_FEW_VALUES = 65_536  # they take no time to speak of, so that the caller may as well be told what is wrong with them
_NPY_FLOATS = (torch.float32, torch.float16)
_FLOATS = (*_NPY_FLOATS, torch.bfloat16)
_SHAPES = {
    NPY: "(B, H, W) or (B, H, W, C) with C from 1 to 4",
    SAFETENSORS: "(B, C, H, W) with C from 1 to 4",
}
_WHITESPACE = b" \t\r\n"
_STANDARD_BASE64 = bytes.maketrans(b"-_", b"+/")

P = ParamSpec("P")
T = TypeVar("T")


def _describe_ignored(schema: dict[str, Any]) -> None:
    schema["patternProperties"] = {f"^({'|'.join(sorted(ANSWER_MEMBERS))})$": {}}
    schema["additionalProperties"] = False


class _Body(BaseModel):
    """A body in JSON. Members of answers that it does not need are ignored, so that an answer can be sent back.

    A member that no answer has is an error, so that a misspelt one is noticed.
    """

    model_config = ConfigDict(
        frozen=True, extra="allow", strict=True, allow_inf_nan=False, json_schema_extra=_describe_ignored
    )

    @model_validator(mode="after")
    def _only_known_members(self) -> Self:
        if name := next((name for name in self.model_extra or () if name not in ANSWER_MEMBERS), None):
            raise ValueError(f"{name[:80]} {unknown(name, type(self).model_fields)}")
        return self


class ImagesBody(_Body):
    """Pictures in JSON."""

    images: Annotated[
        list[str], Field(min_length=1, fail_fast=True, description="base64 or data: URI of a PNG, JPEG or WebP")
    ]


class LatentsBody(_Body):
    """Latents in JSON."""

    latents: Annotated[Nested, Field(min_length=1)]


class PairBody(_Body):
    """Two pictures, or two latents, in JSON; of a sample's answer, which has both, the latents are taken."""

    images: Annotated[list[str], Field(fail_fast=True, description="base64 or data: URIs")] | None = None
    latents: Annotated[Nested, Field(min_length=1)] | None = None

    @model_validator(mode="after")
    def _has_images_or_latents(self) -> Self:
        if self.images is None and self.latents is None:
            raise ValueError("it has neither images nor latents; send two of one of them")
        return self


Body = TypeVar("Body", bound=_Body)


async def read_images(call: Call, session: Session, resize: Resize) -> Tensor:
    """Pixels uint8 (B, C, H, W).

    Raises:
        UnsupportedMediaType, UnsupportedEncoding, TooLarge, BodyMemoryFull, BodyTimeout, MalformedBody, BadImage,
        BadValue, WrongShape, DeadlineExceeded: as they say.
    """
    with call.timings.measure("read"), call.body_memory.reserve() as reservation:
        content_type, body = await call.read_body(IMAGE_BODIES, reservation)
        if (media_type := media_type_of(content_type)) in (NPY, SAFETENSORS):
            return await _fitted(call, session, await _aside(call, len(body), _images, media_type, body), resize)
        return await _decoded(call, session, await _pictures_of(call, session, content_type, body), resize)


async def read_latents(call: Call, session: Session) -> Tensor:
    """Latents float32 (B, …), not yet compared with any model.

    Raises:
        UnsupportedMediaType, UnsupportedEncoding, TooLarge, BodyMemoryFull, BodyTimeout, MalformedBody, BadValue,
        DeadlineExceeded: as they say.
    """
    with call.timings.measure("read"), call.body_memory.reserve() as reservation:
        content_type, body = await call.read_body(LATENT_BODIES, reservation)
        return await _aside(call, len(body), _latents, media_type_of(content_type), body, _most_values(session))


async def read_pair(call: Call, session: Session, resize: Resize) -> Tensor:
    """Images or latents, whichever the body holds: pixels uint8 (B, C, H, W), or latents float32 (B, …).

    Raises:
        what `read_images` and `read_latents` raise.
    """
    with call.timings.measure("read"), call.body_memory.reserve() as reservation:
        content_type, body = await call.read_body(IMAGE_BODIES, reservation)
        if (media_type := media_type_of(content_type)) in (NPY, SAFETENSORS):
            latent_shape = session.model.card.model.latent_shape
            read = await _aside(call, len(body), _images_or_latents, media_type, body, latent_shape)
            return await _fitted(call, session, read, resize) if read.dtype == torch.uint8 else read
        if media_type == JSON:
            latents = await _aside(call, len(body), _latents_of_pair, body, _most_values(session))
            if latents is not None:
                return latents
        return await _decoded(call, session, await _pictures_of(call, session, content_type, body), resize)


async def _pictures_of(call: Call, session: Session, content_type: str, body: bytes) -> list[bytes]:
    max_images = session.limits.images
    return await _aside(call, len(body), _pictures, content_type, body, max_images, _most_values(session))


def _target(session: Session, resize: Resize) -> Target:
    shape = session.model.card.model.image_shape
    return Target(session.model.version, shape, resize, session.limits.picture_pixels, session.limits.pixels)


async def _fitted(call: Call, session: Session, pixels: Tensor, resize: Resize) -> Tensor:
    """The pixels of an array in the model's shape."""
    target = _target(session, resize)
    session.limits.check_count(session.model, len(pixels))
    pictures.check_array(pixels, target)
    session.check_room(len(pixels))
    return await _aside(call, pixels.nbytes, pictures.fit, pixels, target)


async def _decoded(call: Call, session: Session, contents: list[bytes], resize: Resize) -> Tensor:
    target = _target(session, resize)
    size = sum(map(len, contents))
    opened = await _aside(call, size * _OPENING, pictures.open_all, contents, target)
    session.check_room(len(opened))
    return await _aside(call, max(size, sum(picture.pixels for picture in opened)), pictures.decode, opened, target)


async def _aside(call: Call, size: int, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """What the function gives; beside the event loop, and while somebody waits for it, if there are many bytes."""
    if size <= LIGHT_BYTES:
        return function(*args, **kwargs)
    return await call.wait_for(offload(size, function, *args, **kwargs))


def _pictures(content_type: str, body: bytes, max_images: int, most_values: int) -> list[bytes]:
    """The encoded pictures of a body."""
    media_type = media_type_of(content_type)
    if media_type == MULTIPART:
        return read_files(content_type, body, max_images)
    if media_type == JSON:
        return _from_base64(_from_json(ImagesBody, body, most_values).images, max_images)
    return [body]


def _most_values(session: Session) -> int:
    """Numbers, strings and lists in the longest JSON that the service itself answers for the most images of a request.

    Encode answers three arrays of latents; the other operations answer a few values for each image.
    """
    numbers_and_lists = sum(accumulate(session.model.card.model.latent_shape, mul, initial=1))
    return session.limits.images * (3 * numbers_and_lists + 3)


def _latents(media_type: str, body: bytes, most_values: int = 0) -> Tensor:
    """Latents float32 (B, …) of a body, one at least."""
    if media_type == NPY:
        return _filled(tensors.read_npy(body, _NPY_FLOATS, "latents"))
    if media_type == SAFETENSORS:
        return _filled(tensors.read_safetensors(body, {"latents": _FLOATS})[1])
    return _filled(_numbers(_from_json(LatentsBody, body, most_values).latents))


def _filled(latents: Tensor) -> Tensor:
    """Latents float32, one at least."""
    if not latents.numel():
        raise BadValue("The latents are empty; send at least one.")
    return latents.float()


def _images(media_type: str, body: bytes) -> Tensor:
    """Pixels uint8 (B, C, H, W) of an array."""
    if media_type == NPY:
        return _pixels(media_type, tensors.read_npy(body, (torch.uint8, *_NPY_FLOATS), "images"))
    return _pixels(media_type, tensors.read_safetensors(body, {"images": (torch.uint8, *_FLOATS)})[1])


def _images_or_latents(media_type: str, body: bytes, latent_shape: tuple[int, ...]) -> Tensor:
    """Pixels uint8 or latents float32 of an array: a name tells them apart, or else the type and the shape."""
    if media_type == SAFETENSORS:
        name, array = tensors.read_safetensors(body, {"latents": _FLOATS, "images": (torch.uint8, *_FLOATS)})
        return _filled(array) if name == "latents" else _pixels(media_type, array)
    array = tensors.read_npy(body, (torch.uint8, *_NPY_FLOATS), "images or latents")
    is_latents = array.dtype != torch.uint8 and (array.ndim < 3 or array.shape[1:] == latent_shape)
    return _filled(array) if is_latents else _pixels(media_type, array)


def _pixels(media_type: str, images: Tensor) -> Tensor:
    """Pixels uint8 (B, C, H, W): npy has channels last or none, safetensors has them first; floats are in [0, 1]."""
    shape, channels_at = tuple(images.shape), 1 if media_type == SAFETENSORS else -1
    if media_type == NPY and images.ndim == 3:
        images = images.unsqueeze(-1)
    if images.ndim != 4 or not 1 <= images.shape[channels_at] <= 4 or not images.numel():
        raise BadValue(f"The images are {shape}; expected {_SHAPES[media_type]}, with one image at least.")
    images = images.movedim(channels_at, 1)
    if images.dtype != torch.uint8:
        remedy = "float images are in [0, 1]: divide by 255, or send uint8"
        check_range(images, -FLOAT_TOLERANCE, 1 + FLOAT_TOLERANCE, "An image", remedy)
        images = to_pixels(images.float())
    return images.contiguous()


def _latents_of_pair(body: bytes, most_values: int) -> Tensor | None:
    """The latents of a JSON body, or None where it holds images."""
    pair = _from_json(PairBody, body, most_values)
    return None if pair.latents is None else _numbers(pair.latents).float()


def _from_json(model: type[Body], body: bytes, most_values: int) -> Body:
    _check_values(body, max(most_values, _FEW_VALUES))
    try:
        return model.model_validate_json(body.removeprefix(BOM_UTF8))
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        if first["type"] == "json_invalid":
            raise MalformedBody(JSON, "it is not JSON, is cut off, or is nested too deeply") from error
        wrong = BadValue(f"The body cannot be used: {validation_messages(error, model)[0]}.")
        wrong.index = next((place for place in first["loc"] if isinstance(place, int)), None)
        raise wrong from error


def _check_values(body: bytes, limit: int) -> None:
    """Refuse JSON that would become far more objects than are meant, before it does.

    Each value but the first has a comma before it, or a bracket that ends what it is in.
    """
    if len(body) > limit and (count := sum(map(body.count, b",]}"))) > limit:
        raise TooLarge("The body", size=count, limit=limit, unit="values")


def _from_base64(texts: list[str], max_images: int) -> list[bytes]:
    if len(texts) > max_images:
        raise TooLarge("The body", size=len(texts), limit=max_images, unit="images")
    pictures = []
    for index, text in enumerate(texts):
        with about_row(index):
            pictures.append(_picture(text, f"Picture {index + 1}"))
    return pictures


def _picture(text: str, name: str) -> bytes:
    """The bytes of base64: of either alphabet, in lines or in one, with or without its padding."""
    if text.startswith(("http:", "https:", "file:", "ftp:")):
        raise BadImage(name, "addresses are not fetched; send the picture itself, as base64")
    if text.startswith("data:"):
        text = text.partition(",")[2]
    try:
        digits = text.encode("ascii").translate(_STANDARD_BASE64, _WHITESPACE).rstrip(b"=")
        return base64.b64decode(digits + b"=" * (-len(digits) % 4), validate=True)
    except (binascii.Error, ValueError) as error:
        raise BadImage(name, "it is not base64; send base64, or a data: URI that holds base64") from error


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
