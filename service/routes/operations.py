"""The four operations. Each is mounted twice: for the model that the path names, and for the default model."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Request, Response

from .. import caching
from ..answers import (
    IMAGE_FORMATS,
    LATENT_FORMATS,
    images_answer,
    latents_answer,
    reconstruction_answer,
    samples_answer,
)
from ..bodies import read_images, read_latents
from ..concurrency import while_connected
from ..dependencies import CurrentEngine, CurrentSettings, RequestedModel, RequestTimings
from ..images import Target
from ..inference.registry import ServedModel
from ..negotiation import choose_format
from ..openapi import IMAGES_BODY, LATENTS_BODY, answers, problems
from ..schemas import (
    EncodeAnswer,
    EncodeParameters,
    ImagesAnswer,
    Parameters,
    ReconstructAnswer,
    SampleAnswer,
    SampleParameters,
)
from ..settings import Settings

router = APIRouter(tags=["operations"])

_ALWAYS = problems(401, 404, 406, 422, 429, 500, 503, 504)
_WITH_BODY = problems(400, 408, 413, 415)
_PICTURES = answers(IMAGE_FORMATS)


@router.post(
    "/encode",
    summary="images → latents",
    response_model=EncodeAnswer,
    responses=answers(LATENT_FORMATS) | _ALWAYS | _WITH_BODY,
    openapi_extra=IMAGES_BODY,
)
async def encode(
    request: Request,
    parameters: Annotated[EncodeParameters, Query()],
    model: RequestedModel,
    engine: CurrentEngine,
    settings: CurrentSettings,
    timings: RequestTimings,
) -> Response:
    """The latents of each image: the posterior's mean, or a draw from it."""
    answer_format = choose_format(parameters.format, request.headers.get("accept"), LATENT_FORMATS)
    with timings.measure("decode"):
        pixels = await read_images(request, _target(model, parameters, settings), settings)
    encoding = await while_connected(
        request, engine.encode(model, pixels, timings, draw=parameters.latents, seed=parameters.seed)
    )
    return await latents_answer(answer_format, model, encoding, timings)


@router.post(
    "/decode",
    summary="latents → images",
    response_model=ImagesAnswer,
    responses=_PICTURES | _ALWAYS | _WITH_BODY,
    openapi_extra=LATENTS_BODY,
)
async def decode(
    request: Request,
    parameters: Annotated[Parameters, Query()],
    model: RequestedModel,
    engine: CurrentEngine,
    settings: CurrentSettings,
    timings: RequestTimings,
) -> Response:
    """The image of each latent; several as one picture become a grid, row by row."""
    answer_format = choose_format(parameters.format, request.headers.get("accept"), IMAGE_FORMATS)
    with timings.measure("decode"):
        latents = await read_latents(request, settings)
    decoded = await while_connected(request, engine.decode(model, latents, timings))
    return await images_answer(answer_format, model, decoded, timings)


@router.get(
    "/sample",
    summary="random images",
    response_model=SampleAnswer,
    responses=_PICTURES | {304: {"description": "the caller holds this sample already"}} | _ALWAYS | problems(413),
)
async def sample(
    request: Request,
    parameters: Annotated[SampleParameters, Query()],
    model: RequestedModel,
    engine: CurrentEngine,
    settings: CurrentSettings,
    timings: RequestTimings,
) -> Response:
    """Images that are in no data set: latents drawn from the prior, decoded. The same seed gives the same images."""
    answer_format = choose_format(parameters.format, request.headers.get("accept"), IMAGE_FORMATS)
    tag = caching.etag(model, engine.registry.device, parameters, answer_format)
    if caching.is_fresh(request, tag):
        answer = Response(status_code=304)
    else:
        samples = await while_connected(
            request,
            engine.sample(model, parameters.n, timings, seed=parameters.seed, temperature=parameters.temperature),
        )
        answer = await samples_answer(answer_format, model, samples, timings)
    is_pinned = "@" in request.path_params.get("model", "")
    return caching.mark(answer, tag, is_pinned=is_pinned, is_private=bool(settings.api_keys))


@router.post(
    "/reconstruct",
    summary="images → images, through the latents",
    response_model=ReconstructAnswer,
    responses=_PICTURES | _ALWAYS | _WITH_BODY,
    openapi_extra=IMAGES_BODY,
)
async def reconstruct(
    request: Request,
    parameters: Annotated[EncodeParameters, Query()],
    model: RequestedModel,
    engine: CurrentEngine,
    settings: CurrentSettings,
    timings: RequestTimings,
) -> Response:
    """Each image encoded and decoded again; as JSON with its distance from the original."""
    answer_format = choose_format(parameters.format, request.headers.get("accept"), IMAGE_FORMATS)
    with timings.measure("decode"):
        pixels = await read_images(request, _target(model, parameters, settings), settings)
    reconstruction = await while_connected(
        request, engine.reconstruct(model, pixels, timings, draw=parameters.latents, seed=parameters.seed)
    )
    return await reconstruction_answer(answer_format, model, reconstruction, timings)


def _target(model: ServedModel, parameters: EncodeParameters, settings: Settings) -> Target:
    return Target(
        model.version,
        model.card.model.image_shape,
        parameters.resize,
        settings.max_pixels,
        settings.max_request_pixels,
    )
