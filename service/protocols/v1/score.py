"""Score: images → their likelihood under the model, in nats."""

from __future__ import annotations

from functools import partial
from typing import Annotated

from pydantic import Field
from starlette.responses import Response

from model_store.vae.scoring_protocol import Binarise

from ...http.call import Call
from ...http.negotiation import SCORE_FORMATS, choose_format
from ...http.router import Endpoint
from ...operations.score import score
from ...operations.session import Session
from .answers import OperationAnswer, bytes_to_write, make_response, write_json
from .bodies import read_images
from .openapi import images_body, responses
from .parameters import INT32_MAX, AnswerFormat, OptionalSeed, Parameters, PictureResize, offered


class ScoreParameters(Parameters):
    """The query of score."""

    format: Annotated[AnswerFormat, offered(SCORE_FORMATS)] = None
    importance_samples: Annotated[int, Field(ge=1, le=INT32_MAX, description="K of the importance-weighted bound")] = 1
    binarise: Annotated[
        Binarise, Field(description="grey pixels of a model of binary ones: drawn with the seed, or cut at the middle")
    ] = "sample"
    seed: OptionalSeed = None
    resize: PictureResize = "none"


class ScoreAnswer(OperationAnswer):
    """The bounds of each image in nats, and the protocol of the measurement."""

    elbo_nats: list[float]
    log_likelihood_nats: list[float]
    kl_nats: list[float]
    importance_weighted_nats: list[float]
    bits_per_dimension: list[float] | None = Field(description="of the ELBO; null where pixels are not 8-bit")
    percentile: list[float] | None = Field(
        description="of the ELBO among the model's own test images: near 0 is an anomaly; null where the card does not "
        "have the quantiles, and for pixels cut at the middle, since the pixels of test images were drawn"
    )
    protocol: str


async def answer(call: Call, session: Session, parameters: ScoreParameters) -> Response:
    """The evidence lower bound of each image, its terms, the tighter importance-weighted bound, and its rank."""
    choose_format(parameters.format, call.headers.get("accept"), SCORE_FORMATS)
    session.written_bytes = partial(bytes_to_write, "json", session.config, has_images=False)
    pixels = await read_images(call, session, parameters.resize)
    work = score(
        session,
        pixels,
        importance_samples=parameters.importance_samples,
        binarise=parameters.binarise,
        seed=parameters.seed,
    )
    scores = await call.wait_for(work, "ask for fewer importance_samples, or send fewer images")
    with call.timings.measure("write"):
        members = {
            "elbo_nats": scores.bound.elbo_nats,
            "log_likelihood_nats": scores.bound.log_likelihood_nats,
            "kl_nats": scores.bound.kl_nats,
            "importance_weighted_nats": scores.bound.importance_weighted_nats,
            "bits_per_dimension": scores.bits_per_dimension,
            "percentile": scores.percentile,
            "protocol": scores.protocol,
        }
        content = await write_json(call, session, members)
    return make_response("json", session, content, scores.seed)


ENDPOINT = Endpoint(
    name="score",
    methods=("POST",),
    summary="images → how likely the model finds them, in nats",
    parameters=ScoreParameters,
    answer=answer,
    answer_schema=ScoreAnswer,
    responses=responses(SCORE_FORMATS, reads_body=True),
    request_body=images_body,
)
