"""Reconstruction errors of a model that takes images of any size: each picture at its own size, one after the other.

Such a model has no likelihood, so its numbers are errors of pixels.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from model_store import Metric
from model_store.families import Network
from model_store.free_memory import memory_shortage
from model_store.pictures import Pixels, picture_to_pixels, pixels_to_picture
from model_store.vae.family import FamilyConfig, ImageShape
from model_store.vae.pixels import mean_squared_errors, psnr_db, to_images
from model_store.vae.sentences import counted

from ..console import track, warn
from ..data import place_name
from ..errors import BadData, DataNotFound, NotFinite
from ..recipe import DataRecipe
from ..sources import read_arrays
from ..sources.folder import SUFFIXES, decode_picture, split_folders
from ..sources.listing import list_pictures
from .figures import PAIRS, reconstructions
from .report import Report

DEFAULT_SIDE = 512  # pixels; a large autoencoder takes a core about a minute for each picture of that size

_LEAST_MSE = 1e-12


class Errors(NamedTuple):
    """The errors of a reconstruction, for values in [0, 1]: the mean square, and the mean of the absolute values."""

    square: float
    absolute: float


def report_any_size(model: Network, place: Path, *, side: int = DEFAULT_SIDE, most: int | None = None) -> Report:
    """Measure a model on the test pictures of a place, at most the first `most`, and draw some of them.

    A place that has no test pictures is taken whole.

    A picture is cropped at its centre to sides of at most `side` pixels that the model takes.

    Raises:
        DataNotFound, BadData: the place has no picture that can be used.
        NotFinite: a number of the model is infinite or NaN.
    """
    errors: list[Errors] = []
    first: list[Tensor] = []
    sizes: set[tuple[int, ...]] = set()
    for pixels in cropped_pictures(place, model.config, side, most):
        _, *size = pixels.shape
        _check_memory(place, model.config, (len(pixels), size[0], size[1]))
        errors.append(errors_of(model, pixels))
        sizes.add(tuple(size))
        first += [pixels] if len(first) < PAIRS else []
    if not errors:
        raise DataNotFound(place, f"it has no picture that can be used with sides of at most {side} pixels")
    if not np.isfinite(errors).all():
        raise NotFinite(len(errors))
    where = f"{counted(len(errors), 'pictures')} of {place_name(place)}, {_words_of(sizes)}, values in [0, 1]"
    files = {"reconstructions.png": reconstructions(model, common_crops(first, model.config))}
    return Report(error_metrics(errors, where), files=files)


@torch.inference_mode()
def errors_of(model: Network, pixels: Tensor) -> Errors:
    """The errors of the reconstruction of uint8 pixels (C, H, W) through the mean of their latents, in float32."""
    images = to_images(pixels[None].to(model.device))
    remade = model.decode(model.encode(images).mean).mean
    return Errors(mean_squared_errors(remade, images).item(), (remade - images).abs().mean().item())


def error_metrics(errors: Sequence[Errors], where: str) -> list[Metric]:
    """The mean errors of pictures, each of which counts the same, and the PSNR of single pictures."""
    mse, mae = np.mean(errors, axis=0).tolist()
    each_db = [psnr_db(max(each.square, _LEAST_MSE)) for each in errors]
    mean_db, low_db = float(np.mean(each_db)), float(np.quantile(each_db, 0.05))
    through = f"reconstructions from the latents' mean; {where}"
    return [
        Metric(name="mse", value=mse, unit="1", protocol=f"mean square of the errors of {through}"),
        Metric(
            name="psnr_db", value=psnr_db(max(mse, _LEAST_MSE)), unit="dB", protocol=f"of the mean mse of {through}"
        ),
        Metric(name="mae", value=mae, unit="1", protocol=f"mean of the absolute errors of {through}"),
        Metric(name="mean_psnr_db", value=mean_db, unit="dB", protocol=f"mean of the pictures' PSNR; {through}"),
        Metric(
            name="psnr_db_q05", value=low_db, unit="dB", protocol=f"a twentieth of the pictures has less; {through}"
        ),
    ]


def cropped_pictures(place: Path, config: FamilyConfig, side: int, most: int | None = None) -> Iterator[Tensor]:
    """Uint8 pixels (C, H, W) of the first test pictures of a folder or array, cropped at the centre.

    A picture that cannot be read is skipped with a warning, and one that is too small for the model without one.

    Raises:
        DataNotFound, BadData: the place is missing, or cannot be read.
    """
    channels = config.image_shape[0]
    pictures = _pictures(place, channels)[:most]
    for picture in track(pictures, len(pictures), "reconstructing"):
        pixels = _pixels(picture, channels)
        if isinstance(pixels, BadData):
            warn(str(pixels))
            continue
        height, width = (min(each, side) // config.multiple * config.multiple for each in pixels.shape[1:])
        if height and width:
            yield centre(pixels, height, width)


def centre(pixels: Tensor, height: int, width: int) -> Tensor:
    """The middle of pixels (C, H, W), of that size."""
    top, left = (pixels.shape[1] - height) // 2, (pixels.shape[2] - width) // 2
    return pixels[:, top : top + height, left : left + width]


def common_crops(pictures: Sequence[Tensor], config: FamilyConfig) -> Tensor:
    """The middles (B, C, H, W) of pictures of several sizes, in the largest square that all of them have."""
    side = min(min(each.shape[1:]) for each in pictures) // config.multiple * config.multiple
    return torch.stack([centre(each, side, side) for each in pictures])


def _pictures(place: Path, channels: int) -> Sequence[Path | Pixels]:
    """The test pictures of a folder or an array, or all of its pictures if it has none for a test."""
    arrays = read_arrays(place, (channels, 1, 1), DataRecipe())
    if arrays is None:
        parts = split_folders(place)
        return list_pictures(parts.get("test", place) if "train" in parts else place, SUFFIXES).pictures
    return list((arrays.train if arrays.test is None else arrays.test).numpy())


def _pixels(picture: Path | Pixels, channels: int) -> Tensor | BadData:
    """Uint8 pixels (channels, H, W) of a picture in its own size, or the reason why it cannot be used."""
    if isinstance(picture, Path):
        return decode_picture(picture, (channels, 1, 1), DataRecipe())
    return torch.from_numpy(picture_to_pixels(pixels_to_picture(picture), (channels, *picture.shape[1:]), "none"))


def _check_memory(place: Path, config: FamilyConfig, shape: ImageShape) -> None:
    """Raise BadData if an image of that shape does not fit into the memory."""
    if shortage := memory_shortage(config.activation_bytes_of(shape)):
        raise BadData(place, f"to reconstruct an image of {shape[1]}×{shape[2]} {shortage}; lower --side")


def _words_of(sizes: Collection[tuple[int, ...]]) -> str:
    """Words for the heights and widths of pictures; of many sizes, the smallest and the largest."""
    named = [f"{height}×{width}" for height, width in sorted(sizes)]
    return f"cropped to {' … '.join(dict.fromkeys((named[0], named[-1])))}"
