"""Score: images → their likelihood under the model, in nats, and how unusual they are."""

from __future__ import annotations

import re
from functools import partial
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field
from starlette.responses import Response

from model_store.score_statistics import Statistic
from model_store.vae.family import ImageShape
from model_store.vae.scoring_protocol import Binarise
from model_store.version import NAME, is_name

from ...formats import pictures, tensors
from ...http.call import Call
from ...http.negotiation import SCORE_FORMATS, Format, choose_format
from ...http.router import Endpoint
from ...offload import offload
from ...operations.score import Score, Wish, score
from ...operations.session import Session
from .answers import OperationAnswer, bytes_to_write, make_response, respond_with_images, write_json
from .bodies import read_images
from .json_bodies import JSON_VALUE_BYTES
from .openapi import images_body, responses
from .parameters import INT32_MAX, AnswerFormat, Parameters, PictureParameters, PictureResize, Seed, offered

_FLOAT32_BYTES = 4
_THRESHOLD = re.compile(r"^q(0[1-9]|[1-4][0-9]|50)$")


def _check_threshold(threshold: str | None) -> str | None:
    if threshold is not None and not _THRESHOLD.match(threshold):
        raise ValueError("must be a percentile from q01 to q50, such as q01 for one false alarm in a hundred")
    return threshold


def _check_calibration(name: str | None) -> str | None:
    if name is not None and not is_name(name):
        raise ValueError("must be the name of a calibration: 1 to 64 letters, digits, '-', '_' and '.'")
    return name


class ScoreParameters(Parameters, PictureParameters):
    """The query of score."""

    format: Annotated[AnswerFormat, offered(SCORE_FORMATS)] = None
    importance_samples: Annotated[int, Field(ge=1, le=INT32_MAX, description="K of the importance-weighted bound")] = 1
    binarise: Annotated[
        Binarise, Field(description="grey pixels of a model of binary ones: drawn with the seed, or cut at the middle")
    ] = "sample"
    seed: Annotated[
        Seed | None,
        Field(description="gives each image noise of its own, by its place; if left out, all images share one noise"),
    ] = None
    resize: PictureResize = "none"
    calibration: Annotated[
        str | None,
        AfterValidator(_check_calibration),
        Field(
            json_schema_extra={"pattern": NAME.pattern},
            description="the normal images to compare with, by the name that training.calibrate gave them; "
            "if left out, default, else the test images of the model",
        ),
    ] = None
    statistic: Annotated[Statistic, Field(description="the statistic of percentile and anomalous")] = "elbo"
    threshold: Annotated[
        str | None,
        AfterValidator(_check_threshold),
        Field(
            json_schema_extra={"pattern": _THRESHOLD.pattern},
            description="such as q01: an image is anomalous if fewer than 1 % of the normal ones are as unusual",
        ),
    ] = None
    map: Annotated[
        bool, Field(description="also the error of each pixel, −log p in nats; other formats than JSON are the map")
    ] = False

    def wish(self, wanted: Format) -> Wish:
        """How the images are to be judged, for an answer in that format."""
        percentile = None if self.threshold is None else float(self.threshold.removeprefix("q"))
        error_map: Literal["nats", "colours"] = "nats" if wanted in ("json", "npy") else "colours"
        return Wish(self.calibration, self.statistic, percentile, error_map if self.map or wanted != "json" else None)


class ScoreAnswer(OperationAnswer):
    """The bounds of each image in nats, how unusual it is, and the protocol of the measurement.

    Percentiles are shares of the normal images, 0 to 100, that are at least as unusual: near 0 is an anomaly. They are
    null without quantiles, and for pixels cut at the middle, since the pixels of the normal images were drawn.
    """

    elbo_nats: list[float]
    log_likelihood_nats: list[float]
    kl_nats: list[float]
    importance_weighted_nats: list[float]
    bits_per_dimension: list[float] | None = Field(description="of the ELBO; null where pixels are not 8-bit")
    latent_distance: list[float] | None = Field(
        description="of the latents from the middle of the normal images' latents, in their standard deviations"
    )
    percentile: list[float] | None = Field(description="by the statistic that was asked for")
    percentiles: dict[Statistic, list[float] | None] = Field(description="by each statistic")
    statistic: Statistic
    anomalous: list[bool] | None = Field(description="percentile below the threshold; null where none was asked for")
    compared_with: str | None = Field(description="the normal images: a calibration, or the model's own test images")
    error_map_nats: list[list[list[float]]] | None = Field(
        default=None, description="with map=true: for each image, row and column"
    )
    protocol: str


async def answer(call: Call, session: Session, parameters: ScoreParameters) -> Response:
    """The evidence lower bound of each image, its terms, the tighter importance-weighted bound, and its percentiles.

    With `map=true` there is also the error of each pixel; other formats than JSON are the map alone.
    """
    wanted = choose_format(parameters.format, call.headers.get("accept"), SCORE_FORMATS)
    session.written_bytes = partial(_bytes_to_write, wanted, session, has_map=parameters.map)
    pixels = await read_images(call, session, parameters.resize)
    work = score(
        session,
        pixels,
        importance_samples=parameters.importance_samples,
        binarise=parameters.binarise,
        seed=parameters.seed,
        wish=parameters.wish(wanted),
    )
    scores = await call.wait_for(work, "ask for fewer importance_samples, or send fewer images")
    if scores.error_map is None or wanted == "json":
        with call.timings.measure("write"):
            content = await write_json(call, session, _members(scores, parameters))
        return make_response("json", session, content, scores.seed)
    if wanted == "npy":
        with call.timings.measure("write"):
            content = await offload(scores.error_map.nbytes, tensors.write_npy, scores.error_map)
        return make_response(wanted, session, content, scores.seed)
    return await respond_with_images(
        call, wanted, session, [scores.error_map], jpeg_quality=parameters.jpeg_quality, seed=scores.seed
    )


def _members(scores: Score, parameters: ScoreParameters) -> dict[str, Any]:
    return {
        "elbo_nats": scores.bound.elbo_nats,
        "log_likelihood_nats": scores.bound.log_likelihood_nats,
        "kl_nats": scores.bound.kl_nats,
        "importance_weighted_nats": scores.bound.importance_weighted_nats,
        "bits_per_dimension": scores.bits_per_dimension,
        "latent_distance": scores.latent_distance,
        "percentile": scores.percentiles[parameters.statistic],
        "percentiles": scores.percentiles,
        "statistic": parameters.statistic,
        "anomalous": scores.are_anomalous,
        "compared_with": scores.compared_with.name if scores.compared_with else None,
        **({} if scores.error_map is None else {"error_map_nats": scores.error_map}),
        "protocol": scores.protocol,
    }


def _bytes_to_write(wanted: Format, session: Session, image_shape: ImageShape, count: int, *, has_map: bool) -> int:
    """Memory to write the answer about each of `count` images, as `bytes_to_write` has it for other operations."""
    _, height, width = image_shape
    if wanted == "json":
        own = bytes_to_write("json", session.config, image_shape, count, has_images=False)
        return own + has_map * JSON_VALUE_BYTES * height * (width + 1)
    if wanted == "npy" or wanted == "safetensors":  # noqa: PLR1714  # mypy narrows no tuple
        return 3 * _FLOAT32_BYTES * height * width
    # the colours of a pixel are float64 before they are rounded: 83 bytes at the peak
    return 96 * height * width + pictures.bytes_to_encode(wanted, (3, height, width), count)


ENDPOINT = Endpoint(
    name="score",
    methods=("POST",),
    summary="images → how likely the model finds them, in nats, and how unusual they are",
    parameters=ScoreParameters,
    answer=answer,
    answer_schema=ScoreAnswer,
    responses=responses(SCORE_FORMATS, reads_body=True),
    request_body=images_body,
)
