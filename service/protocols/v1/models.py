"""The served models and their cards."""

from __future__ import annotations

from typing import cast

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, Field

from model_store import Card
from model_store.vae.config import Side, Width
from model_store.vae.family import OPERATIONS, Operation, SamplerName
from model_store.vae.record import Count

from ...http.problems import documented_errors
from ...http.state import CurrentState
from ...operations.session import Sessions
from .answers import Answer, VersionNumber

REFERENCE = "name, for the newest version, name@version or name@alias"  # the description of a model in an address

router = APIRouter(tags=["models"], prefix="/models")


class ModelLimits(BaseModel):
    """The limits of one request to a model."""

    images: Count = Field(description="that come in or go out")
    pixels: Count = Field(description="of all images together")
    picture_pixels: Count = Field(description="of one picture, as it is sent")
    body_bytes: Count


class ModelSummary(Answer):
    """One served model."""

    is_default: bool = Field(description="whether /v1/encode and the like mean this one")
    image_shape: tuple[Side, Side | None, Side | None] = Field(description="(C, H, W); null for sides of any size")
    latent_shape: tuple[Width | None, ...]
    downscale: Side | None = Field(description="each side is a multiple of it; null for a model of one size")
    latent_space: str = Field(description="its name; a model decodes latents of its own space")
    operations: list[Operation] = Field(description="what the model can do")
    samplers: list[SamplerName] = Field(description="from which samples can be drawn; the first is the default")
    limits: ModelLimits
    parameters: Count
    aliases: list[str] = Field(description="names that an operator has given to this version, as in mnist@stable")


class RefusedVersion(BaseModel):
    """A version that is published and cannot be served."""

    model: str
    version: VersionNumber | None = Field(
        description="null where the folder's name is not a version; the reason names the folder"
    )
    reason: str


class ModelsAnswer(BaseModel):
    """All models that are served, and the published versions that cannot be served."""

    models: list[ModelSummary]
    refused: list[RefusedVersion]


class CardAnswer(Answer):
    """The card of one model: its network, its data and its measured numbers."""

    card: Card


@router.head("", include_in_schema=False)
@router.get("", summary="all models that are served", responses=documented_errors(401))
async def models(request: Request, state: CurrentState) -> ModelsAnswer:
    """Every version that is served, and every published version that cannot be served, with the reason."""
    registry, sessions = state.registry, cast(Sessions, request.app.state.sessions)
    limits = ModelLimits(
        images=sessions.limits.images,
        pixels=sessions.limits.pixels,
        picture_pixels=sessions.limits.picture_pixels,
        body_bytes=state.limits.max_body_bytes,
    )
    default, aliases = registry.default, registry.aliases
    refused = [
        RefusedVersion(model=version.name, version=version.number, reason=reason)
        for version, reason in registry.refused.items()
    ]
    refused += [
        RefusedVersion(model=path.partition("/")[0], version=None, reason=f"{path}: {reason}")
        for path, reason in registry.misplaced.items()
    ]
    served = [
        ModelSummary(
            model=model.version.name,
            version=model.version.number,
            is_default=model is default,
            image_shape=model.card.model.image_shape,
            latent_shape=model.card.model.latent_shape,
            downscale=model.card.model.multiple if model.card.model.takes_any_size else None,
            latent_space=model.space,
            operations=[operation for operation in OPERATIONS if operation in model.card.model.can],
            samplers=list(model.card.model.sampler_names),
            limits=limits,
            parameters=model.card.weights.parameters,
            aliases=aliases.get(model.version, []),
        )
        for model in registry.served
    ]
    return ModelsAnswer(models=served, refused=refused)


# As a parameter of the function, the name would give the description a 422, which a text never gets.
_IN_PATH = {
    "parameters": [
        {"name": "model", "in": "path", "required": True, "description": REFERENCE, "schema": {"type": "string"}}
    ]
}


@router.head("/{model}", include_in_schema=False)
@router.get(
    "/{model}",
    summary="one model's card",
    response_model=CardAnswer,
    responses=documented_errors(401, 404, 414, 431, 503),
    openapi_extra=_IN_PATH,
)
async def card(request: Request, state: CurrentState) -> Response:
    """The card: the network, the data it was trained on, and each measured number with its protocol."""
    model = state.registry.find(request.path_params["model"])
    request.state.model = model.name  # for the log and the metrics
    name, number = model.version
    content = b'{"model":"%b","version":%d,"card":%b}' % (name.encode(), number, model.card_json)
    return Response(content, media_type="application/json")
