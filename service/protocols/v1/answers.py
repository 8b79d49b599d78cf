"""The answers that operations share: their JSON, and their bytes in each format, with the headers that belong to them.

Field names are part of the HTTP contract (docs/api.md).
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import Annotated, Any

import orjson
import torch
from pydantic import BaseModel, Field
from starlette.responses import Response
from torch import Tensor

from model_store.vae.pixels import to_pixels

from ...formats import pictures, tensors
from ...http.negotiation import MEDIA_TYPES, Format
from ...offload import offload
from ...operations.session import PixelType, Session

VersionNumber = Annotated[int, Field(ge=1, le=999_999_999)]
Nested = Annotated[list[Any], Field(description="nested to the model's latent shape, one per image")]

ANSWER_MEMBERS: set[str] = set()
"""The members that the JSON of any operation has. Bodies ignore them, so that an answer can be sent back."""


class Answer(BaseModel):
    """JSON about one version of a model."""

    model: str
    version: VersionNumber


class OperationAnswer(Answer):
    """The JSON of an operation."""

    @classmethod
    def __pydantic_init_subclass__(cls, **_: Any) -> None:
        """Add the members of a new operation's answer to those that bodies ignore."""
        ANSWER_MEMBERS.update(cls.model_fields)


class ImagesAnswer(OperationAnswer):
    """Images as base64 PNG."""

    images: list[str]


def pixel_type(wanted: Format) -> PixelType:
    """The type of the images in a format."""
    return "float32" if wanted == "safetensors" else "uint8"


def model_headers(session: Session) -> dict[str, str]:
    """The headers of every answer, even of one without a body."""
    return {"X-Model": session.model.name, "Vary": "Accept"}


async def respond_with_images(
    wanted: Format,
    session: Session,
    images: Tensor,
    *,
    columns: int | None = None,
    seed: int | None = None,
    more: Mapping[str, Any] | None = None,
) -> Response:
    """Images in the wanted format: one picture shows several images in a grid of `columns`.

    A JSON answer also has the members `more`; safetensors has the latents among them.
    """
    with session.timings.measure("write"):
        content = await offload(images.nbytes, write_images, wanted, session, images, columns, more or {})
    return make_response(wanted, session, content, seed)


def write_images(
    wanted: Format, session: Session, images: Tensor, columns: int | None, more: Mapping[str, Any]
) -> bytes:
    """Images float32 in [0, 1] or uint8 (B, C, H, W) in the wanted format.

    Only safetensors keeps float32; the other formats have the images rounded to uint8.
    """
    if wanted == "safetensors":
        latents = {"latents": more["latents"]} if "latents" in more else {}
        return tensors.write_safetensors({"images": images, **latents})
    pixels = images if images.dtype == torch.uint8 else to_pixels(images)
    if wanted == "npy":
        return tensors.write_npy(pixels.permute(0, 2, 3, 1).contiguous())
    if wanted == "json":
        encoded = [base64.b64encode(pictures.encode(image[None], "png")).decode() for image in pixels.numpy()]
        return write_json(session, {"images": encoded, **more})
    return pictures.encode(pixels.numpy(), wanted, columns)


def write_json(session: Session, members: Mapping[str, Any]) -> bytes:
    """JSON about the session's model, with tensors as nested lists.

    Each float32 has the fewest digits that give it back exactly, and an infinite number is null.
    """
    version = session.model.version
    answer = {"model": version.name, "version": version.number}
    answer |= {name: value.numpy() if isinstance(value, Tensor) else value for name, value in members.items()}
    return orjson.dumps(answer, option=orjson.OPT_SERIALIZE_NUMPY)


def make_response(wanted: Format, session: Session, content: bytes, seed: int | None) -> Response:
    """The response with its headers; the seed is told where something was drawn."""
    headers = model_headers(session) | {"Server-Timing": session.timings.header()}
    if seed is not None:
        headers["X-Seed"] = str(seed)
    return Response(content, media_type=MEDIA_TYPES[wanted], headers=headers)
