"""Sample: random images."""

from __future__ import annotations

from functools import partial
from typing import Annotated

from pydantic import Field
from starlette.responses import Response

from model_store.vae.family import SamplerName

from ...http.answer_headers import model_headers
from ...http.call import Call
from ...http.negotiation import IMAGE_FORMATS, choose_format
from ...http.router import Endpoint
from ...operations.sample import check_sample, sample
from ...operations.session import Session
from . import caching
from .answers import ImagesAnswer, bytes_to_write, pixel_type, respond_with_images
from .json_bodies import Nested
from .openapi import responses
from .parameters import INT32_MAX, OptionalSeed, Parameters, PictureParameters, Seed


class SampleParameters(Parameters, PictureParameters):
    """The query of sample."""

    n: Annotated[int, Field(ge=1, le=INT32_MAX, description="how many images")] = 1
    seed: OptionalSeed = None
    temperature: Annotated[float, Field(ge=0, le=2, description="scales the prior's standard deviation")] = 1.0
    sampler: Annotated[
        SamplerName | None,
        Field(description="the prior, or a distribution that was fitted to the model; by default the model's first"),
    ] = None


class SampleAnswer(ImagesAnswer):
    """Random images, the latents they were decoded from, and the seed that gives them again."""

    seed: Seed
    latents: Nested


async def answer(call: Call, session: Session, parameters: SampleParameters) -> Response:
    """Images that are in no data set: latents drawn from a sampler, decoded. The same seed gives the same images."""
    wanted = choose_format(parameters.format, call.headers.get("accept"), IMAGE_FORMATS)
    session.written_bytes = partial(bytes_to_write, wanted, session.config, latents=1)
    quality = parameters.jpeg_quality
    n, seed, temperature = parameters.n, parameters.seed, parameters.temperature
    sampler = parameters.sampler
    check_sample(session, n, pixel_type(wanted), sampler)
    # behind the checks: a condition counts only where the answer would be 200 (RFC 9110, section 13.2.1)
    tag = None if seed is None else caching.etag(session, n, seed, temperature, sampler, wanted, quality)
    if tag and caching.is_held(call, tag):
        return caching.add_headers(Response(status_code=304, headers=model_headers(session.model.name)), call, tag)
    work = sample(session, n, seed=seed, temperature=temperature, sampler=sampler, pixel_type=pixel_type(wanted))
    samples = await call.wait_for(work, "ask for a smaller n")
    more = {"seed": samples.seed, "latents": samples.latents}
    response = await respond_with_images(
        call, wanted, session, [samples.images], jpeg_quality=quality, seed=samples.seed, more=more
    )
    return caching.add_headers(response, call, tag)


ENDPOINT = Endpoint(
    name="sample",
    methods=("GET", "HEAD"),
    summary="random images",
    parameters=SampleParameters,
    answer=answer,
    answer_schema=SampleAnswer,
    responses=responses(IMAGE_FORMATS) | {304: {"description": "the client holds this sample already"}},
)
