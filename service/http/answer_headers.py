"""The headers of an answer that tell which model has computed it, and how; the same in every protocol."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from model_store.vae.family import ImageShape

from ..formats.latent_space import HEADER as LATENT_SPACE

ORIGINAL_SIZE = "X-Original-Size"

_DESCRIPTIONS = {
    "X-Model": "the model and version of this answer",
    "X-Tiling": "rows and columns of the tiles in which an image was computed, and their overlap: 3x4; overlap=96; "
    "exact=true",
    "X-Precision": "in which a model of any size was computed, and the images that were computed again in float32: "
    "bfloat16; recomputed=2",
    "Server-Timing": "milliseconds of each stage",
    LATENT_SPACE: "the space of the latents, and whether they are scaled: flux1;scaled, or flux1;raw",
    ORIGINAL_SIZE: "(C, H, W) of the images before they were padded; one for each image where they differ",
}
_OF_ALL = ("X-Model", "X-Tiling", "X-Precision", "Server-Timing")


def model_headers(model: str) -> dict[str, str]:
    """The headers of every answer of a model, `name@version`, even of one without a body."""
    return {"X-Model": model, "Vary": "Accept"}


def computed_headers(model: str, stages: str, *, tiling: str | None, precision: str | None) -> dict[str, str]:
    """The headers of an answer that was computed: its model, the time of each stage, tiles and precision if any."""
    told = {"Server-Timing": stages, "X-Tiling": tiling, "X-Precision": precision}
    return model_headers(model) | {name: text for name, text in told.items() if text is not None}


def original_sizes(shapes: Sequence[ImageShape]) -> dict[str, str]:
    """The header that tells the shapes that images had before they were padded; once, where all have the same."""
    shown = shapes if len(set(shapes)) > 1 else shapes[:1]
    return {ORIGINAL_SIZE: ", ".join("x".join(map(str, shape)) for shape in shown)}


def documented_headers(*more: str) -> dict[str, dict[str, Any]]:
    """The OpenAPI's description of the headers of all answers, and of some that an operation adds."""
    names = (*_OF_ALL, *more)
    return {name: {"description": _DESCRIPTIONS[name], "schema": {"type": "string"}} for name in names}
