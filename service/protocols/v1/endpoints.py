"""The operations. Each is mounted twice: for the model that the path names, and for the default model."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import wraps
from typing import Annotated, Any

from fastapi import Path
from starlette.responses import Response

from ...http import call as http
from ...http.negotiation import IMAGE_FORMATS, LATENT_FORMATS, SCORE_FORMATS, choose_format
from ...http.problems import documented_errors
from ...http.router import Endpoint, Mount
from ...operations.decode import decode as decode_latents
from ...operations.encode import encode as encode_images
from ...operations.interpolate import interpolate as interpolate_pair
from ...operations.reconstruct import reconstruct as reconstruct_images
from ...operations.sample import sample as draw_samples
from ...operations.score import score as score_images
from ...operations.session import Sessions
from ...operations.traverse import traverse as traverse_latents
from . import answers, caching
from .answers import pixel_type
from .bodies import read_images, read_latents, read_pair
from .call import Call
from .openapi import IMAGES_BODY, LATENTS_BODY, PAIR_BODY, answered_in
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

_ALWAYS = documented_errors(401, 404, 406, 413, 414, 422, 429, 431, 500, 503, 504)
_WITH_BODY = documented_errors(400, 408, 415)


async def encode(call: Call, parameters: EncodeParameters) -> Response:
    """The latents of each image: the posterior's mean, or a draw from it."""
    wanted = choose_format(parameters.format, call.headers.get("accept"), LATENT_FORMATS)
    pixels = await read_images(call, parameters.resize)
    question = encode_images(call.session, pixels, draw=parameters.latents, seed=parameters.seed)
    return await answers.latents(wanted, call, await call.wait_for(question))


async def decode(call: Call, parameters: Parameters) -> Response:
    """The image of each latent; several as one picture become a grid, row by row."""
    wanted = choose_format(parameters.format, call.headers.get("accept"), IMAGE_FORMATS)
    latents = await read_latents(call)
    question = decode_latents(call.session, latents, pixel_type=pixel_type(wanted))
    return await answers.write_images(wanted, call, await call.wait_for(question, "send fewer latents"))


async def sample(call: Call, parameters: SampleParameters) -> Response:
    """Images that are in no data set: latents drawn from the prior, decoded. The same seed gives the same images."""
    wanted = choose_format(parameters.format, call.headers.get("accept"), IMAGE_FORMATS)
    tag = caching.etag(call, parameters, wanted)
    if caching.is_fresh(call, tag):
        return caching.mark(Response(status_code=304, headers=answers.about(call)), call, tag)
    question = draw_samples(
        call.session,
        parameters.n,
        seed=parameters.seed,
        temperature=parameters.temperature,
        pixel_type=pixel_type(wanted),
    )
    answer = await answers.samples(wanted, call, await call.wait_for(question, "ask for a smaller n"))
    return caching.mark(answer, call, tag)


async def reconstruct(call: Call, parameters: ReconstructParameters) -> Response:
    """Each image encoded and decoded again; as JSON with its distance from the original."""
    wanted = choose_format(parameters.format, call.headers.get("accept"), IMAGE_FORMATS)
    pixels = await read_images(call, parameters.resize)
    question = reconstruct_images(
        call.session,
        pixels,
        draw=parameters.latents,
        seed=parameters.seed,
        # JSON says how far each image is from the original, before it is rounded
        pixel_type="float32" if wanted == "json" else pixel_type(wanted),
    )
    return await answers.reconstruction(wanted, call, await call.wait_for(question))


async def score(call: Call, parameters: ScoreParameters) -> Response:
    """The evidence lower bound of each image, its terms, the tighter importance-weighted bound, and its rank."""
    choose_format(parameters.format, call.headers.get("accept"), SCORE_FORMATS)
    pixels = await read_images(call, parameters.resize)
    question = score_images(
        call.session,
        pixels,
        importance_samples=parameters.importance_samples,
        binarise=parameters.binarise,
        seed=parameters.seed,
    )
    return await answers.score(
        call, await call.wait_for(question, "ask for fewer importance_samples, or send fewer images")
    )


async def interpolate(call: Call, parameters: InterpolateParameters) -> Response:
    """The images on a path from one latent to another, side by side, both ends included."""
    wanted = choose_format(parameters.format, call.headers.get("accept"), IMAGE_FORMATS)
    pair = await read_pair(call, parameters.resize)
    question = interpolate_pair(
        call.session,
        pair,
        steps=parameters.steps,
        path=parameters.path,
        pixel_type=pixel_type(wanted),
    )
    images = await call.wait_for(question, "ask for fewer steps")
    return await answers.write_images(wanted, call, images, columns=parameters.steps)


async def traverse(call: Call, parameters: TraverseParameters) -> Response:
    """What single dimensions do: a row for each; of an odd number of columns the middle one is the latent itself."""
    wanted = choose_format(parameters.format, call.headers.get("accept"), IMAGE_FORMATS)
    question = traverse_latents(
        call.session,
        dims=parameters.dims,
        steps=parameters.steps,
        span=parameters.span,
        seed=parameters.seed,
        pixel_type=pixel_type(wanted),
    )
    images = await call.wait_for(question, "ask for fewer steps or dims")
    return await answers.write_images(wanted, call, images, columns=parameters.steps, seed=parameters.seed)


def _of_model(
    answer: Callable[[Call, Any], Awaitable[Response]],
) -> Callable[[http.Call, Call, Any], Awaitable[Response]]:
    @wraps(answer)
    async def answer_of_model(_: http.Call, call: Call, parameters: Any) -> Response:
        return await answer(call, parameters)

    return answer_of_model


ENDPOINTS: list[Endpoint[Call]] = [
    Endpoint(
        name="encode",
        methods=("POST",),
        summary="images → latents",
        parameters=EncodeParameters,
        answer=_of_model(encode),
        answer_schema=EncodeAnswer,
        responses=answered_in(LATENT_FORMATS) | _ALWAYS | _WITH_BODY,
        request_body=IMAGES_BODY,
    ),
    Endpoint(
        name="decode",
        methods=("POST",),
        summary="latents → images",
        parameters=Parameters,
        answer=_of_model(decode),
        answer_schema=ImagesAnswer,
        responses=answered_in(IMAGE_FORMATS) | _ALWAYS | _WITH_BODY,
        request_body=LATENTS_BODY,
    ),
    Endpoint(
        name="sample",
        methods=("GET", "HEAD"),
        summary="random images",
        parameters=SampleParameters,
        answer=_of_model(sample),
        answer_schema=SampleAnswer,
        responses=answered_in(IMAGE_FORMATS) | {304: {"description": "the caller holds this sample already"}} | _ALWAYS,
    ),
    Endpoint(
        name="reconstruct",
        methods=("POST",),
        summary="images → images, through the latents",
        parameters=ReconstructParameters,
        answer=_of_model(reconstruct),
        answer_schema=ReconstructAnswer,
        responses=answered_in(IMAGE_FORMATS) | _ALWAYS | _WITH_BODY,
        request_body=IMAGES_BODY,
    ),
    Endpoint(
        name="score",
        methods=("POST",),
        summary="images → what the model thinks of them, in nats",
        parameters=ScoreParameters,
        answer=_of_model(score),
        answer_schema=ScoreAnswer,
        responses=answered_in(SCORE_FORMATS) | _ALWAYS | _WITH_BODY,
        request_body=IMAGES_BODY,
    ),
    Endpoint(
        name="interpolate",
        methods=("POST",),
        summary="two images or latents → the images between them",
        parameters=InterpolateParameters,
        answer=_of_model(interpolate),
        answer_schema=ImagesAnswer,
        responses=answered_in(IMAGE_FORMATS) | _ALWAYS | _WITH_BODY,
        request_body=PAIR_BODY,
    ),
    Endpoint(
        name="traverse",
        methods=("GET",),
        summary="one latent, moved along single dimensions → a grid of images",
        parameters=TraverseParameters,
        answer=_of_model(traverse),
        answer_schema=ImagesAnswer,
        responses=answered_in(IMAGE_FORMATS) | _ALWAYS,
    ),
]

_MODEL = Annotated[str, Path(description="name, for the newest version, or name@version", examples=["mnist"])]


def mounts(sessions: Sessions, max_pixels: int) -> list[Mount[Call]]:
    """The operations of the model that the address names, and of the default model where it names none."""

    def find(call: http.Call) -> Call:
        session = sessions.open(call.path.get("model"), call.timings)
        call.log_model(session.model.name)
        return Call(**vars(call), sessions=sessions, session=session, max_pixels=max_pixels)

    named = Mount(
        prefix="/v1/models/{model}", endpoints=ENDPOINTS, find=find, tag="operations", path_parameters={"model": _MODEL}
    )
    # the description of the tag tells of the short addresses
    return [named, Mount(prefix="/v1", endpoints=ENDPOINTS, find=find, tag="operations", in_schema=False)]
