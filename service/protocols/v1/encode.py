"""Encode: images → latents."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field
from starlette.responses import Response

from ...formats import tensors
from ...http.call import Call
from ...http.negotiation import LATENT_FORMATS, Format, choose_format
from ...http.router import Endpoint
from ...offload import offload
from ...operations.encode import Encoding, encode
from ...operations.session import Session
from .answers import OperationAnswer, bytes_to_write, make_response, write_json
from .bodies import read_images
from .json_bodies import Nested
from .openapi import images_body, responses
from .parameters import AnswerFormat, DrawParameters, offered


class EncodeParameters(DrawParameters):
    """The query of encode."""

    format: Annotated[AnswerFormat, offered(LATENT_FORMATS)] = None


class EncodeAnswer(OperationAnswer):
    """Latents of images, and the posterior they come from."""

    latents: Nested
    mean: Annotated[Nested, Field(description="of the posterior; under a uniform prior latents are Φ of such numbers")]
    log_variance: Nested | None = Field(description="of the posterior; null for a model that gives points")


async def answer(call: Call, session: Session, parameters: EncodeParameters) -> Response:
    """The latents of each image: the posterior's mean, or a draw from it."""
    wanted = choose_format(parameters.format, call.headers.get("accept"), LATENT_FORMATS)
    session.written_bytes = bytes_to_write(wanted, session, latents=3, has_images=False)
    pixels = await read_images(call, session, parameters.resize)
    encoding = await call.wait_for(encode(session, pixels, draw=parameters.latents, seed=parameters.seed))
    with call.timings.measure("write"):
        content = await write_encoding(call, wanted, session, encoding)
    return make_response(wanted, session, content, encoding.seed)


async def write_encoding(call: Call, wanted: Format, session: Session, encoding: Encoding) -> bytes:
    """The latents as npy; the latents and the posterior as safetensors or JSON."""
    if wanted == "npy":
        return await offload(encoding.latents.nbytes, tensors.write_npy, encoding.latents)
    named = {"latents": encoding.latents, "mean": encoding.mean, "log_variance": encoding.log_variance}
    if wanted == "safetensors":
        present = {name: tensor for name, tensor in named.items() if tensor is not None}
        return await offload(encoding.latents.nbytes, tensors.write_safetensors, present)
    return await write_json(call, session, named)


ENDPOINT = Endpoint(
    name="encode",
    methods=("POST",),
    summary="images → latents",
    parameters=EncodeParameters,
    answer=answer,
    answer_schema=EncodeAnswer,
    responses=responses(LATENT_FORMATS, reads_body=True),
    request_body=images_body,
)
