"""Bodies that hold encoded pictures: a picture itself, a multipart form, or JSON with base64.

This module does not import torch: a large body is read in a process.
"""

from __future__ import annotations

from model_store.pictures import Pixels

from ...formats import pictures
from ...formats.multipart import MULTIPART, read_files
from ...formats.target import Target
from ...http.body import media_type_of
from .json_bodies import JSON, Allowed, ImagesBody, ReadLatents, read_base64, read_json, read_json_pair_latents


def read_pictures(content_type: str, body: bytes, target: Target, allowed: Allowed) -> list[Pixels]:
    """Pixels uint8 (B, C, H, W) of the pictures in a body, for each run of pictures of the same size.

    Raises:
        the errors of `read_picture_files`, `pictures.inspect_all` and `pictures.decode`.
    """
    return pictures.decode(pictures.inspect_all(read_picture_files(content_type, body, allowed), target), target)


def read_json_pair(body: bytes, target: Target, allowed: Allowed) -> list[Pixels] | ReadLatents:
    """The latents if the JSON holds some, else pixels uint8 (B, C, H, W) for each run of the same size.

    Raises:
        the errors of `read_json_pair_latents` and `read_pictures`.
    """
    latents = read_json_pair_latents(body, allowed)
    return read_pictures(JSON, body, target, allowed) if latents is None else latents


def read_picture_files(content_type: str, body: bytes, allowed: Allowed) -> list[bytes]:
    """The encoded pictures of a body: the body itself, or the pictures of a multipart form or of JSON.

    Raises:
        TooLarge: there are more than the allowed images, or values of JSON.
        MalformedBody, BadImage, BadValue: the form, the base64 or the JSON cannot be read.
    """
    media_type = media_type_of(content_type)
    if media_type == MULTIPART:
        return read_files(content_type, body, allowed.images)
    if media_type == JSON:
        return read_base64(read_json(ImagesBody, body, allowed).images, allowed.images)
    return [body]
