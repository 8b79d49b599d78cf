"""The JSON that goes in and out, and the parameters in a query. Field names are promises: see the HTTP contract."""

from __future__ import annotations

from typing import Annotated, Any, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema, model_validator

from model_store import Card
from model_store.pictures import Resize
from model_store.vae.config import Side, Width
from model_store.vae.noise import MAX_SEED
from model_store.vae.record import Count
from model_store.vae.scoring_protocol import Binarise
from model_store.vae.sentences import unknown

from ...http.negotiation import LATENT_FORMATS, SCORE_FORMATS, Format
from ...http.query import QueryParameters
from ...operations.encode import Draw
from ...operations.paths import PathKind

INT32_MAX = 2**31 - 1

VersionNumber = Annotated[int, Field(ge=1, le=999_999_999)]
Nested = Annotated[list[Any], Field(description="nested to the model's latent shape, one per image")]
Seed = Annotated[
    Annotated[int, Field(ge=0, le=MAX_SEED)] | None,
    Field(description="makes the answer repeatable; drawn, and told in X-Seed, if left out"),
]
Latents = Annotated[Draw, Field(description="the posterior's mean, or a draw from the posterior")]
Sizing = Annotated[
    Resize,
    Field(description="for pictures of another size than the model's: contain pads, cover crops, stretch distorts"),
]
FormatParameter = Annotated[Format | None, Field(description="the answer's format; wins over Accept")]


def _described(formats: tuple[Format, ...]) -> WithJsonSchema:
    """What the OpenAPI lists; another format is an error of its own, 406."""
    return WithJsonSchema({"anyOf": [{"type": "string", "enum": list(formats)}, {"type": "null"}]})


class Parameters(QueryParameters):
    """Of decode, and of every other operation too."""

    format: FormatParameter = None


class ReconstructParameters(Parameters):
    """Of reconstruct."""

    latents: Latents = "mean"
    seed: Seed = None
    resize: Sizing = "none"


class EncodeParameters(ReconstructParameters):
    """Of encode."""

    format: Annotated[FormatParameter, _described(LATENT_FORMATS)] = None


class SampleParameters(Parameters):
    """Of sample."""

    n: Annotated[int, Field(ge=1, le=INT32_MAX, description="how many images")] = 1
    seed: Seed = None
    temperature: Annotated[float, Field(ge=0, le=2, description="scales the prior's standard deviation")] = 1.0


class ScoreParameters(Parameters):
    """Of score."""

    format: Annotated[FormatParameter, _described(SCORE_FORMATS)] = None
    importance_samples: Annotated[int, Field(ge=1, le=INT32_MAX, description="K of the importance-weighted bound")] = 1
    binarise: Annotated[
        Binarise, Field(description="grey pixels of a model of binary ones: drawn with the seed, or cut at the middle")
    ] = "sample"
    seed: Seed = None
    resize: Sizing = "none"


class InterpolateParameters(Parameters):
    """Of interpolate."""

    steps: Annotated[int, Field(ge=2, le=INT32_MAX, description="pictures in all, ends included")] = 8
    path: Annotated[PathKind, Field(description="straight, or on the sphere where a prior's latents lie")] = "spherical"
    resize: Sizing = "none"


def _split_at_commas(texts: object) -> object:
    return [part for text in texts for part in text.split(",")] if isinstance(texts, list) else texts


_COMMA_LIST = {
    "anyOf": [
        {"type": "array", "items": {"type": "integer", "minimum": 0, "maximum": 9_999_999}, "maxItems": 500},
        {"type": "string", "pattern": r"^\d{1,7}(,\d{1,7})*$", "maxLength": 1000},
        {"type": "null"},
    ]
}


class TraverseParameters(Parameters):
    """Of traverse."""

    dims: Annotated[
        list[Annotated[int, Field(ge=0, le=9_999_999)]] | None,
        BeforeValidator(_split_at_commas),
        Field(max_length=500, description="a repeated key or a comma list; else those of the largest KL"),
        WithJsonSchema(_COMMA_LIST),
    ] = None
    steps: Annotated[int, Field(ge=2, le=INT32_MAX, description="columns")] = 9
    span: Annotated[float, Field(gt=0, le=10, description="to either side, in standard deviations")] = 3.0
    seed: Annotated[
        Annotated[int, Field(ge=0, le=MAX_SEED)] | None,
        Field(description="begins at this draw from the prior, else in its middle"),
    ] = None


def _describe_ignored(schema: dict[str, Any]) -> None:
    schema["patternProperties"] = {f"^({'|'.join(sorted(ANSWER_MEMBERS))})$": {}}
    schema["additionalProperties"] = False


class _Body(BaseModel):
    """A body takes what an answer gives: members of answers that it has no use for are ignored.

    A member that no answer has is an error, so that a misspelt one is noticed.
    """

    model_config = ConfigDict(
        frozen=True, extra="allow", strict=True, allow_inf_nan=False, json_schema_extra=_describe_ignored
    )

    @model_validator(mode="after")
    def _only_known_members(self) -> Self:
        if name := next((name for name in self.model_extra or () if name not in ANSWER_MEMBERS), None):
            raise ValueError(f"{name[:80]} {unknown(name, type(self).model_fields)}")
        return self


class ImagesBody(_Body):
    """Pictures in JSON."""

    images: Annotated[
        list[str], Field(min_length=1, fail_fast=True, description="base64 or data: URI of a PNG, JPEG or WebP")
    ]


class LatentsBody(_Body):
    """Latents in JSON."""

    latents: Annotated[Nested, Field(min_length=1)]


class _Answer(BaseModel):
    model: str
    version: VersionNumber


class PairBody(_Body):
    """Two pictures, or two latents, in JSON; of a sample's answer, which has both, the latents are taken."""

    images: Annotated[list[str], Field(fail_fast=True, description="base64 or data: URIs")] | None = None
    latents: Annotated[Nested, Field(min_length=1)] | None = None

    @model_validator(mode="after")
    def _has_images_or_latents(self) -> Self:
        if self.images is None and self.latents is None:
            raise ValueError("it has neither images nor latents; send two of one of them")
        return self


class EncodeAnswer(_Answer):
    """Latents of images, and the posterior they come from."""

    latents: Nested
    mean: Annotated[Nested, Field(description="of the posterior; under a uniform prior latents are Φ of such numbers")]
    log_variance: Nested | None = Field(description="of the posterior; null for a model that gives points")


class ImagesAnswer(_Answer):
    """Images as base64 PNG."""

    images: list[str]


class SampleAnswer(ImagesAnswer):
    """Random images, the latents they were decoded from, and the seed that gives them again."""

    seed: Annotated[int, Field(ge=0, le=MAX_SEED)]
    latents: Nested


class ReconstructAnswer(ImagesAnswer):
    """Images after a way through the latents, and how far they are from the originals on the scale [0, 1]."""

    mse: list[float]
    psnr_db: list[float | None] = Field(description="null where the images are equal")


class ScoreAnswer(_Answer):
    """What a model thinks of images: nats, one number for each, and by which protocol."""

    elbo_nats: list[float]
    log_likelihood_nats: list[float]
    kl_nats: list[float]
    importance_weighted_nats: list[float]
    bits_per_dimension: list[float] | None = Field(description="of the ELBO; null for a model of pixels not 8-bit")
    percentile: list[float] | None = Field(
        description="of the ELBO among the model's own test images: near 0 is an anomaly; null where the card does not "
        "know them, and for pixels cut at the middle, since theirs were drawn"
    )
    protocol: str


ANSWER_MEMBERS = frozenset(
    name for answer in (EncodeAnswer, SampleAnswer, ReconstructAnswer, ScoreAnswer) for name in answer.model_fields
)


class ModelSummary(_Answer):
    """One served model."""

    is_default: bool = Field(description="whether /v1/encode and the like mean this one")
    image_shape: tuple[Side, Side, Side] = Field(description="(C, H, W)")
    latent_shape: tuple[Width, ...]
    parameters: Count


class RefusedVersion(BaseModel):
    """A version that is published and cannot be served."""

    model: str
    version: VersionNumber | None = Field(
        description="null where the folder's name is not a version; the reason names the folder"
    )
    reason: str


class ModelsAnswer(BaseModel):
    """All models that are served, and those that should be."""

    models: list[ModelSummary]
    refused: list[RefusedVersion]


class CardAnswer(_Answer):
    """One model's card: what it is, where it comes from, how well it does."""

    card: Card
