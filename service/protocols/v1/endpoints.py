"""The operations. Each is mounted twice: for the model that the path names, and for the default model."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Response

from ...http.call import Call
from ...http.direct import DirectRoute
from ...http.negotiation import IMAGE_FORMATS, LATENT_FORMATS, SCORE_FORMATS, choose_format, pixel_type
from ...http.state import CurrentCall
from ...operations.decode import decode as decode_latents
from ...operations.encode import encode as encode_images
from ...operations.interpolate import interpolate as interpolate_pair
from ...operations.reconstruct import reconstruct as reconstruct_images
from ...operations.sample import sample as draw_samples
from ...operations.score import score as score_images
from ...operations.session import Session
from ...operations.traverse import traverse as traverse_latents
from . import answers, caching
from .bodies import read_images, read_latents, read_pair
from .openapi import IMAGES_BODY, LATENTS_BODY, PAIR_BODY, answered_in, documented_errors
from .schemas import (
    EncodeAnswer,
    EncodeParameters,
    ImagesAnswer,
    InterpolateParameters,
    Parameters,
    ReconstructAnswer,
    ReconstructParameters,
    SampleAnswer,
    SampleParameters,
    ScoreAnswer,
    ScoreParameters,
    TraverseParameters,
)


def _session(call: Call) -> Session:
    return Session(call.model, call.engine.limits, call.timings)


router = APIRouter(tags=["operations"], route_class=DirectRoute)

_ALWAYS = documented_errors(401, 404, 406, 413, 414, 422, 429, 431, 500, 503, 504)
_WITH_BODY = documented_errors(400, 408, 415)


@router.post(
    "/encode",
    summary="images → latents",
    response_model=EncodeAnswer,
    responses=answered_in(LATENT_FORMATS) | _ALWAYS | _WITH_BODY,
    openapi_extra=IMAGES_BODY,
)
async def encode(call: CurrentCall, parameters: Annotated[EncodeParameters, Query()]) -> Response:
    """The latents of each image: the posterior's mean, or a draw from it."""
    wanted = choose_format(parameters.format, call.headers.get("accept"), LATENT_FORMATS)
    pixels = await read_images(call, parameters.resize)
    question = encode_images(_session(call), pixels, draw=parameters.latents, seed=parameters.seed)
    return await answers.latents(wanted, call, await call.wait_for(question))


@router.post(
    "/decode",
    summary="latents → images",
    response_model=ImagesAnswer,
    responses=answered_in(IMAGE_FORMATS) | _ALWAYS | _WITH_BODY,
    openapi_extra=LATENTS_BODY,
)
async def decode(call: CurrentCall, parameters: Annotated[Parameters, Query()]) -> Response:
    """The image of each latent; several as one picture become a grid, row by row."""
    wanted = choose_format(parameters.format, call.headers.get("accept"), IMAGE_FORMATS)
    latents = await read_latents(call)
    question = decode_latents(_session(call), latents, pixel_type=pixel_type(wanted))
    return await answers.write_images(wanted, call, await call.wait_for(question, "send fewer latents"))


@router.head("/sample", include_in_schema=False)
@router.get(
    "/sample",
    summary="random images",
    response_model=SampleAnswer,
    responses=answered_in(IMAGE_FORMATS) | {304: {"description": "the caller holds this sample already"}} | _ALWAYS,
)
async def sample(call: CurrentCall, parameters: Annotated[SampleParameters, Query()]) -> Response:
    """Images that are in no data set: latents drawn from the prior, decoded. The same seed gives the same images."""
    wanted = choose_format(parameters.format, call.headers.get("accept"), IMAGE_FORMATS)
    tag = caching.etag(call, parameters, wanted)
    if caching.is_fresh(call, tag):
        return caching.mark(Response(status_code=304, headers=answers.about(call)), call, tag)
    question = draw_samples(
        _session(call),
        parameters.n,
        seed=parameters.seed,
        temperature=parameters.temperature,
        pixel_type=pixel_type(wanted),
    )
    answer = await answers.samples(wanted, call, await call.wait_for(question, "ask for a smaller n"))
    return caching.mark(answer, call, tag)


@router.post(
    "/reconstruct",
    summary="images → images, through the latents",
    response_model=ReconstructAnswer,
    responses=answered_in(IMAGE_FORMATS) | _ALWAYS | _WITH_BODY,
    openapi_extra=IMAGES_BODY,
)
async def reconstruct(call: CurrentCall, parameters: Annotated[ReconstructParameters, Query()]) -> Response:
    """Each image encoded and decoded again; as JSON with its distance from the original."""
    wanted = choose_format(parameters.format, call.headers.get("accept"), IMAGE_FORMATS)
    pixels = await read_images(call, parameters.resize)
    question = reconstruct_images(
        _session(call),
        pixels,
        draw=parameters.latents,
        seed=parameters.seed,
        # JSON says how far each image is from the original, before it is rounded
        pixel_type="float32" if wanted == "json" else pixel_type(wanted),
    )
    return await answers.reconstruction(wanted, call, await call.wait_for(question))


@router.post(
    "/score",
    summary="images → what the model thinks of them, in nats",
    response_model=ScoreAnswer,
    responses=answered_in(SCORE_FORMATS) | _ALWAYS | _WITH_BODY,
    openapi_extra=IMAGES_BODY,
)
async def score(call: CurrentCall, parameters: Annotated[ScoreParameters, Query()]) -> Response:
    """The evidence lower bound of each image, its terms, the tighter importance-weighted bound, and its rank."""
    choose_format(parameters.format, call.headers.get("accept"), SCORE_FORMATS)
    pixels = await read_images(call, parameters.resize)
    question = score_images(
        _session(call),
        pixels,
        importance_samples=parameters.importance_samples,
        binarise=parameters.binarise,
        seed=parameters.seed,
    )
    return await answers.score(
        call, await call.wait_for(question, "ask for fewer importance_samples, or send fewer images")
    )


@router.post(
    "/interpolate",
    summary="two images or latents → the images between them",
    response_model=ImagesAnswer,
    responses=answered_in(IMAGE_FORMATS) | _ALWAYS | _WITH_BODY,
    openapi_extra=PAIR_BODY,
)
async def interpolate(call: CurrentCall, parameters: Annotated[InterpolateParameters, Query()]) -> Response:
    """The images on a path from one latent to another, side by side, both ends included."""
    wanted = choose_format(parameters.format, call.headers.get("accept"), IMAGE_FORMATS)
    pair = await read_pair(call, parameters.resize)
    question = interpolate_pair(
        _session(call),
        pair,
        steps=parameters.steps,
        path=parameters.path,
        pixel_type=pixel_type(wanted),
    )
    images = await call.wait_for(question, "ask for fewer steps")
    return await answers.write_images(wanted, call, images, columns=parameters.steps)


@router.get(
    "/traverse",
    summary="one latent, moved along single dimensions → a grid of images",
    response_model=ImagesAnswer,
    responses=answered_in(IMAGE_FORMATS) | _ALWAYS,
)
async def traverse(call: CurrentCall, parameters: Annotated[TraverseParameters, Query()]) -> Response:
    """What single dimensions do: a row for each; of an odd number of columns the middle one is the latent itself."""
    wanted = choose_format(parameters.format, call.headers.get("accept"), IMAGE_FORMATS)
    question = traverse_latents(
        _session(call),
        dims=parameters.dims,
        steps=parameters.steps,
        span=parameters.span,
        seed=parameters.seed,
        pixel_type=pixel_type(wanted),
    )
    images = await call.wait_for(question, "ask for fewer steps or dims")
    return await answers.write_images(wanted, call, images, columns=parameters.steps, seed=parameters.seed)
