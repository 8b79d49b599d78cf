"""Encode: images → latents."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Annotated, Literal

import torch
from pydantic import Field
from starlette.responses import Response

from ...errors import BadValue, InvalidParameter
from ...formats import tensors
from ...formats.latent_space import HEADER, LatentSpace
from ...http.answer_headers import ORIGINAL_SIZE, original_sizes
from ...http.call import Call
from ...http.negotiation import LATENT_FORMATS, Format, choose_format
from ...http.router import Endpoint
from ...offload import offload
from ...operations.encode import Encoding
from ...operations.padding import are_padded
from ...operations.runs import encode_runs, shapes_of
from ...operations.session import Session
from .answers import (
    NO_HEADERS,
    OperationAnswer,
    bytes_to_write,
    check_one_size,
    make_response,
    named_tensors,
    one_or_each,
    write_json,
)
from .bodies import read_runs
from .json_bodies import Nested
from .openapi import images_body, responses
from .parameters import AnswerFormat, DrawParameters, offered

LatentType = Literal["float32", "float16", "bfloat16"]

_TYPES: dict[Format, tuple[LatentType, ...]] = {
    "json": ("float32",),
    "npy": ("float32", "float16"),
    "safetensors": ("float32", "float16", "bfloat16"),
}


class EncodeParameters(DrawParameters):
    """The query of encode."""

    format: Annotated[AnswerFormat, offered(LATENT_FORMATS)] = None
    dtype: Annotated[LatentType, Field(description="of latents as npy or safetensors; npy has no bfloat16")] = "float32"
    scaled: Annotated[
        bool, Field(description="shift and multiply the latents with the card's factors, as diffusion models need them")
    ] = False


class EncodeAnswer(OperationAnswer):
    """Latents of images, and the posterior they come from."""

    latents: Nested
    mean: Annotated[Nested, Field(description="of the posterior; under a uniform prior latents are Φ of such numbers")]
    log_variance: Nested | None = Field(description="of the posterior; null for a model that gives points")
    latent_space: Annotated[str, Field(description="its name; a model decodes latents of its own space")]
    scaled: bool


async def answer(call: Call, session: Session, parameters: EncodeParameters) -> Response:
    """The latents of each image: the posterior's mean, or a draw from it."""
    wanted = choose_format(parameters.format, call.headers.get("accept"), LATENT_FORMATS)
    if parameters.dtype not in _TYPES[wanted]:
        able = " or ".join(_TYPES[wanted])
        raise InvalidParameter(f"dtype must be {able} for an answer as {wanted}; ask for safetensors to have all types")
    latents = 2 if session.config.is_posterior_a_point else 3  # with the mean, and most with a log-variance
    session.written_bytes = partial(bytes_to_write, wanted, session.config, latents=latents, has_images=False)
    session.tile_wish = parameters.tile_wish
    images = await read_runs(call, session, parameters.resize, parameters.fit)
    if wanted == "npy":
        check_one_size(images)
    work = encode_runs(session, images, draw=parameters.latents, seed=parameters.seed, is_scaled=parameters.scaled)
    encodings = await call.wait_for(work)
    space = LatentSpace(session.space, parameters.scaled)
    with call.timings.measure("write"):
        dtype = getattr(torch, parameters.dtype)
        size = sum(each.latents.nbytes for each in encodings)
        encodings = await offload(size, in_type, encodings, dtype)
        content = await write_encodings(call, wanted, session, encodings, space)
    padding = original_sizes(shapes_of(images)) if are_padded(parameters.fit, session.config) else NO_HEADERS
    return make_response(wanted, session, content, encodings[0].seed, {HEADER: str(space), **padding})


def in_type(encodings: list[Encoding], dtype: torch.dtype) -> list[Encoding]:
    """The encodings in another type of numbers.

    Raises:
        BadValue: the type cannot hold them.
    """
    if dtype == torch.float32:
        return encodings
    found = []
    for each in encodings:
        parts = (each.latents, each.mean, each.log_variance)
        latents, mean, variance = (None if part is None else part.to(dtype) for part in parts)
        if latents is None or mean is None or not (latents.isfinite().all() and mean.isfinite().all()):
            raise BadValue(f"The latents are too large for {str(dtype).removeprefix('torch.')}; ask for dtype=float32.")
        found.append(Encoding(latents, mean, variance, each.seed))
    return found


async def write_encodings(
    call: Call,
    wanted: Format,
    session: Session,
    encodings: Sequence[Encoding],
    space: LatentSpace,
) -> bytes:
    """The latents as npy; the latents and the posterior as safetensors or JSON, with the words about their space."""
    latents = [encoding.latents for encoding in encodings]
    size = sum(run.nbytes for run in latents)
    if wanted == "npy":
        return await offload(size, tensors.write_npy, latents[0])
    variances = [each.log_variance for each in encodings if each.log_variance is not None]
    named = {"latents": latents, "mean": [encoding.mean for encoding in encodings], "log_variance": variances}
    if wanted == "safetensors":
        present = {name: each for runs in named for name, each in named_tensors(runs, named[runs]).items()}
        return await offload(size, tensors.write_safetensors, present, space.metadata)
    members = {name: one_or_each(runs) if runs else None for name, runs in named.items()}
    return await write_json(call, session, {**members, **space.members})


ENDPOINT = Endpoint(
    name="encode",
    methods=("POST",),
    summary="images → latents",
    parameters=EncodeParameters,
    answer=answer,
    answer_schema=EncodeAnswer,
    responses=responses(LATENT_FORMATS, reads_body=True, headers=(HEADER, ORIGINAL_SIZE)),
    request_body=images_body,
)
