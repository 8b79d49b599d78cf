"""What the engine found out, as the body that was asked for, with the headers that belong to it."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import Any

import orjson
from starlette.responses import Response
from torch import Tensor

from model_store.vae.pixels import to_pixels

from . import images, tensors
from .concurrency import aside
from .inference.engine import Encoding, Reconstruction, Samples
from .inference.registry import ServedModel
from .negotiation import MEDIA_TYPES, Format
from .timings import Timings

LATENT_FORMATS: tuple[Format, ...] = ("json", "npy", "safetensors")
IMAGE_FORMATS: tuple[Format, ...] = ("png", "jpeg", "webp", "json", "npy", "safetensors")


async def latents_answer(answer_format: Format, model: ServedModel, encoding: Encoding, timings: Timings) -> Response:
    """An answer to encode."""
    with timings.measure("encode"):
        content = await aside(encoding.latents.nbytes, _latents_body, answer_format, model, encoding)
    return _response(content, answer_format, model, timings, encoding.seed)


async def images_answer(answer_format: Format, model: ServedModel, decoded: Tensor, timings: Timings) -> Response:
    """An answer to decode."""
    return await _pictures(answer_format, model, decoded, timings, seed=None, more={})


async def samples_answer(answer_format: Format, model: ServedModel, samples: Samples, timings: Timings) -> Response:
    """An answer to sample."""
    more = {"seed": samples.seed, "latents": samples.latents.numpy()}
    return await _pictures(answer_format, model, samples.images, timings, seed=samples.seed, more=more)


async def reconstruction_answer(
    answer_format: Format, model: ServedModel, reconstruction: Reconstruction, timings: Timings
) -> Response:
    """An answer to reconstruct."""
    more = {"mse": reconstruction.mse, "psnr_db": reconstruction.psnr_db}
    return await _pictures(answer_format, model, reconstruction.images, timings, seed=reconstruction.seed, more=more)


async def _pictures(
    answer_format: Format,
    model: ServedModel,
    decoded: Tensor,
    timings: Timings,
    *,
    seed: int | None,
    more: Mapping[str, Any],
) -> Response:
    with timings.measure("encode"):
        content = await aside(decoded.nbytes, _images_body, answer_format, model, decoded, more)
    return _response(content, answer_format, model, timings, seed)


def _latents_body(answer_format: Format, model: ServedModel, encoding: Encoding) -> bytes:
    log_variance = encoding.log_variance
    if answer_format == "npy":
        return tensors.write_npy(encoding.latents)
    if answer_format == "safetensors":
        present = {"latents": encoding.latents, "mean": encoding.mean, "log_variance": log_variance}
        return tensors.write_safetensors({name: tensor for name, tensor in present.items() if tensor is not None})
    return _json(
        model,
        latents=encoding.latents.numpy(),
        mean=encoding.mean.numpy(),
        log_variance=None if log_variance is None else log_variance.numpy(),
    )


def _images_body(answer_format: Format, model: ServedModel, decoded: Tensor, more: Mapping[str, Any]) -> bytes:
    if answer_format == "safetensors":
        return tensors.write_safetensors({"images": decoded})
    pixels = to_pixels(decoded)
    if answer_format == "npy":
        return tensors.write_npy(pixels.permute(0, 2, 3, 1).contiguous())
    if answer_format == "json":
        pictures = [base64.b64encode(images.encode(image.unsqueeze(0), "png")).decode() for image in pixels]
        return _json(model, images=pictures, **more)
    return images.encode(pixels, answer_format)


def _json(model: ServedModel, **fields: Any) -> bytes:
    """JSON in which each float32 has the fewest digits that give it back exactly."""
    answer = {"model": model.version.name, "version": model.version.number, **fields}
    return orjson.dumps(answer, option=orjson.OPT_SERIALIZE_NUMPY)


def _response(
    content: bytes, answer_format: Format, model: ServedModel, timings: Timings, seed: int | None
) -> Response:
    headers = {"X-Model": str(model.version), "Server-Timing": timings.header(), "Vary": "Accept"}
    if seed is not None:
        headers["X-Seed"] = str(seed)
    return Response(content, media_type=MEDIA_TYPES[answer_format], headers=headers)
