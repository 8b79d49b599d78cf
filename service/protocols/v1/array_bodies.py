"""Bodies that are arrays, npy or safetensors: images and latents, and how they are told apart."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from model_store.pictures import FLOAT_TOLERANCE, UnusablePicture, to_uint8
from model_store.vae.family import OpenShape

from ...errors import BadValue, WrongShape
from ...formats import tensors
from ...formats.latent_space import LatentSpace, of_metadata
from ...formats.target import Target
from ...formats.tensors import NPY, SAFETENSORS
from ...operations.limits import check_range

_NPY_FLOATS = (torch.float32, torch.float16)
_FLOATS = (*_NPY_FLOATS, torch.bfloat16)
_NPY_PIXELS = (torch.uint8, torch.uint16, torch.bool, torch.float64, *_NPY_FLOATS)
_PIXELS = (*_NPY_PIXELS, torch.bfloat16)
_SHAPES = {
    NPY: "(B, H, W) or (B, H, W, C) with C from 1 to 4",
    SAFETENSORS: "(B, C, H, W) with C from 1 to 4",
}


def read_image_array(media_type: str, body: bytes, target: Target) -> list[Tensor]:
    """Pixels uint8 (B, C, H, W), for each array of the body.

    Raises:
        MalformedBody, BadValue: the array cannot be read, or does not hold images.
        WrongShape: the array is read as many images, but looks like one picture.
    """
    if media_type == NPY:
        return [as_pixels(media_type, tensors.read_npy(body, _NPY_PIXELS, "images"), target)]
    _, arrays = tensors.read_safetensors(body, {"images": _PIXELS})
    return [as_pixels(media_type, array, target) for array in arrays]


class ReadArrays(NamedTuple):
    """Pixels uint8 (B, C, H, W) or latents float32 (B, …), for each array of a body, and what latents say."""

    runs: list[Tensor]
    space: LatentSpace


def read_latent_array(media_type: str, body: bytes) -> ReadArrays:
    """Latents float32 (B, …), at least one, for each array of the body.

    Raises:
        MalformedBody, BadValue: the array cannot be read, or does not hold latents.
    """
    if media_type == NPY:
        return ReadArrays([as_latents(tensors.read_npy(body, _NPY_FLOATS, "latents"))], LatentSpace())
    _, arrays = tensors.read_safetensors(body, {"latents": _FLOATS})
    return ReadArrays([*map(as_latents, arrays)], of_metadata(tensors.read_metadata(body)))


def read_any_array(media_type: str, body: bytes, latent_shape: OpenShape, target: Target) -> ReadArrays:
    """Pixels uint8 or latents float32, for each array of the body.

    In safetensors the name tells them apart, in npy the type and the shape.

    Raises:
        MalformedBody, BadValue: the array cannot be read, or is neither pixels nor latents.
        WrongShape: the array is read as many images, but looks like one picture.
    """
    if media_type == SAFETENSORS:
        name, arrays = tensors.read_safetensors(body, {"latents": _FLOATS, "images": _PIXELS})
        if name == "latents":
            return ReadArrays([*map(as_latents, arrays)], of_metadata(tensors.read_metadata(body)))
        return ReadArrays([as_pixels(media_type, array, target) for array in arrays], LatentSpace())
    array = tensors.read_npy(body, _NPY_PIXELS, "images or latents")
    if not array.is_floating_point() or (array.ndim >= 3 and not _has_shape(array.shape[1:], latent_shape)):
        return ReadArrays([as_pixels(media_type, array, target)], LatentSpace())
    if array.dtype not in _NPY_FLOATS:
        raise BadValue("The latents have the type float64; expected float32 or float16.")
    return ReadArrays([as_latents(array)], LatentSpace())


def _has_shape(shape: Sequence[int], expected: OpenShape) -> bool:
    return len(shape) == len(expected) and all(
        side in (found, None) for found, side in zip(shape, expected, strict=True)
    )


def as_latents(array: Tensor) -> Tensor:
    """The array as latents float32.

    Raises:
        BadValue: the array is empty.
    """
    if not array.numel():
        raise BadValue("The latents are empty; send at least one.")
    return array.float()


def as_pixels(media_type: str, images: Tensor, target: Target) -> Tensor:
    """Pixels uint8 (B, C, H, W). An npy array has its channels last or no channels; safetensors has them first.

    Raises:
        BadValue: the array is empty, does not have the shape of images, or has values whose range is not known.
        WrongShape: the array is read as many images, but looks like one picture.
    """
    shape, channels_at = tuple(images.shape), 1 if media_type == SAFETENSORS else -1
    if media_type == NPY and images.ndim == 3:
        check_not_one_picture(shape, target)
        images = images.unsqueeze(-1)
    if images.ndim != 4 or not 1 <= images.shape[channels_at] <= 4 or not images.numel():
        raise BadValue(f"The images are {shape}; expected {_SHAPES[media_type]}, with one image at least.")
    images = images.movedim(channels_at, 1)
    if images.is_floating_point():
        remedy = "float images are in [0, 1]: divide by 255, or send uint8"
        check_range(images, -FLOAT_TOLERANCE, 1 + FLOAT_TOLERANCE, "An image", remedy)
    if images.dtype == torch.bfloat16:  # NumPy does not have this type
        images = images.float()
    try:
        return torch.from_numpy(to_uint8(images.numpy())).contiguous()
    except UnusablePicture as error:
        raise BadValue(f"The images cannot be used: {error}.") from error


def check_not_one_picture(shape: tuple[int, ...], target: Target) -> None:
    """Raise WrongShape for an array (B, H, W) that looks like one picture (H, W, C) and does not fit the model.

    The usual remedy `resize` would turn each row of the picture into an image.
    """
    count, height, width = shape
    is_like_one = width in (1, 3, 4) and min(count, height) > width
    if is_like_one and target.resize == "none" and (target.are_padded or not target.takes(height, width)):
        raise WrongShape(
            f"The array is read as {count} images of",
            got=(height, width),
            model=target.model,
            expected=target.image_shape[1:],
            remedy=f"send one picture with channels in the shape {(1, *shape)}",
        )
