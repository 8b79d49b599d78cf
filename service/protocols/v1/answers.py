"""What the engine found out, as the body that was asked for, with the headers that belong to it."""

from __future__ import annotations

import base64
import dataclasses
from collections.abc import Mapping
from typing import Any

import orjson
import torch
from starlette.responses import Response
from torch import Tensor

from model_store.vae.pixels import to_pixels

from ...formats import pictures, tensors
from ...http.negotiation import MEDIA_TYPES, Format
from ...inference.served_model import ServedModel
from ...offload import offload
from ...operations.encode import Encoding
from ...operations.reconstruct import Reconstruction
from ...operations.sample import Samples
from ...operations.score import Score
from ...operations.session import PixelType
from .call import Call


def pixel_type(wanted: Format) -> PixelType:
    """The type of the pixels that a format holds."""
    return "float32" if wanted == "safetensors" else "uint8"


async def latents(wanted: Format, call: Call, encoding: Encoding) -> Response:
    """An answer to encode."""
    with call.timings.measure("write"):
        content = await offload(encoding.latents.nbytes, _latents_body, wanted, call.model, encoding)
    return _response(wanted, call, content, encoding.seed)


async def write_images(
    wanted: Format,
    call: Call,
    decoded: Tensor,
    *,
    columns: int | None = None,
    seed: int | None = None,
    more: Mapping[str, Any] | None = None,
) -> Response:
    """An answer to decode; other operations have `more` to say in JSON, or `columns` that belong together."""
    with call.timings.measure("write"):
        content = await offload(decoded.nbytes, _images_body, wanted, call.model, decoded, columns, more or {})
    return _response(wanted, call, content, seed)


async def samples(wanted: Format, call: Call, drawn: Samples) -> Response:
    """An answer to sample."""
    more = {"seed": drawn.seed, "latents": drawn.latents.numpy()}
    return await write_images(wanted, call, drawn.images, seed=drawn.seed, more=more)


async def score(call: Call, found: Score) -> Response:
    """An answer to score."""
    with call.timings.measure("write"):
        fields = {field.name: _numbers(getattr(found, field.name)) for field in dataclasses.fields(found)}
        seed = fields.pop("seed")
        content = _json(call.model, fields)
    return _response("json", call, content, seed)


async def reconstruction(wanted: Format, call: Call, remade: Reconstruction) -> Response:
    """An answer to reconstruct."""
    more = None if remade.distortion is None else vars(remade.distortion)
    return await write_images(wanted, call, remade.images, seed=remade.seed, more=more)


def about(call: Call) -> dict[str, str]:
    """The headers of every answer, one without a body too."""
    return {"X-Model": call.model.name, "Vary": "Accept"}


def _latents_body(wanted: Format, model: ServedModel, encoding: Encoding) -> bytes:
    if wanted == "npy":
        return tensors.write_npy(encoding.latents)
    named = {"latents": encoding.latents, "mean": encoding.mean, "log_variance": encoding.log_variance}
    if wanted == "safetensors":
        return tensors.write_safetensors({name: tensor for name, tensor in named.items() if tensor is not None})
    return _json(model, {name: None if tensor is None else tensor.numpy() for name, tensor in named.items()})


def _numbers(value: Any) -> Any:
    return value.numpy() if isinstance(value, Tensor) else value


def _images_body(
    wanted: Format, model: ServedModel, decoded: Tensor, columns: int | None, more: Mapping[str, Any]
) -> bytes:
    if wanted == "safetensors":
        return tensors.write_safetensors({"images": decoded})
    pixels = decoded if decoded.dtype == torch.uint8 else to_pixels(decoded)
    if wanted == "npy":
        return tensors.write_npy(pixels.permute(0, 2, 3, 1).contiguous())
    if wanted == "json":
        encoded = [base64.b64encode(pictures.encode(image.unsqueeze(0), "png")).decode() for image in pixels]
        return _json(model, {"images": encoded, **more})
    return pictures.encode(pixels, wanted, columns)


def _json(model: ServedModel, fields: Mapping[str, Any]) -> bytes:
    """JSON in which each float32 has the fewest digits that give it back exactly."""
    answer = {"model": model.version.name, "version": model.version.number, **fields}
    return orjson.dumps(answer, option=orjson.OPT_SERIALIZE_NUMPY)


def _response(wanted: Format, call: Call, content: bytes, seed: int | None) -> Response:
    headers = about(call) | {"Server-Timing": call.timings.header()}
    if seed is not None:
        headers["X-Seed"] = str(seed)
    return Response(content, media_type=MEDIA_TYPES[wanted], headers=headers)
