"""The parameters that operations share in a query. Names and defaults are promises: see the HTTP contract."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, WithJsonSchema

from model_store.pictures import Resize
from model_store.vae.noise import MAX_SEED

from ...formats.pictures import JPEG_QUALITY
from ...http.negotiation import Format
from ...http.query import QueryParameters
from ...operations.encode import Draw
from ...operations.padding import Fit
from ...operations.tiling import TileWish

INT32_MAX = 2**31 - 1

Seed = Annotated[int, Field(ge=0, le=MAX_SEED)]
OptionalSeed = Annotated[
    Seed | None, Field(description="makes the answer repeatable; if left out, drawn and told in X-Seed")
]
PictureResize = Annotated[
    Resize,
    Field(description="for pictures of another size than the model's: contain pads, cover crops, stretch distorts"),
]
LatentsAreScaled = Annotated[
    bool | None,
    Field(description="the latents are scaled, as diffusion models exchange them; else their own words say so"),
]
AnswerFormat = Annotated[Format | None, Field(description="the answer's format; wins over Accept")]


def offered(formats: tuple[Format, ...]) -> WithJsonSchema:
    """The formats that the OpenAPI lists. Another format is not a wrong parameter but an error of its own, 406."""
    return WithJsonSchema({"anyOf": [{"type": "string", "enum": list(formats)}, {"type": "null"}]})


class Parameters(QueryParameters):
    """The parameters of every operation."""

    format: AnswerFormat = None


class PictureParameters(QueryParameters):
    """The parameters of operations that answer pictures."""

    jpeg_quality: Annotated[int, Field(ge=1, le=100, description="of format=jpeg")] = JPEG_QUALITY


class TileParameters(Parameters):
    """The parameters of operations that compute images of any size."""

    tile: Annotated[
        Annotated[int, Field(ge=8, le=16_384)] | Literal["auto", "never"],
        Field(description="the side of a tile in pixels; auto: tiles where the image takes too much memory at once"),
    ] = "auto"
    overlap: Annotated[
        int | None, Field(ge=0, le=4096, description="pixels that two tiles share; default: as many as the model needs")
    ] = None

    @property
    def tile_wish(self) -> TileWish:
        """The wish of the client."""
        return TileWish(self.tile, self.overlap)


class DrawParameters(TileParameters):
    """The parameters of operations that read images and may draw their latents from the posterior."""

    fit: Annotated[
        Fit,
        Field(description="pad: repeat the edge up to the next size that a model of any size takes; X-Original-Size"),
    ] = "none"
    latents: Annotated[Draw, Field(description="the posterior's mean, or a draw from the posterior")] = "mean"
    seed: OptionalSeed = None
    resize: PictureResize = "none"
