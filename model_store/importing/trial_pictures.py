"""The pictures on which a model is tried: files of a folder, else a picture that is made here.

This module knows Pillow. It opens files of the person who imports a model, with bounds.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from ..errors import CannotImport
from ..files import open_file
from ..pictures import Pixels, UnusablePicture, picture_to_pixels
from ..vae.pretrained import PretrainedConfig
from ..vae.sentences import counted, shape_text

MAX_PICTURES = 4
GENERATED_SIDE = 256  # pixels
MAX_TRIAL_SIDE = 512  # pixels; a large autoencoder takes a core about a minute for each

_MAX_PIXELS = 50_000_000
_FORMATS = ("PNG", "JPEG", "WEBP")
_ENDINGS = {".png", ".jpg", ".jpeg", ".webp"}
_REMEDY = "Name a folder of PNG, JPEG or WebP files with --pictures, or leave the option out"


class TrialPictures(NamedTuple):
    """Pixels uint8 (C, H, W) of sizes that the model takes; and words for them, for protocols."""

    pixels: tuple[Pixels, ...]
    words: str


def generated_picture(config: PretrainedConfig) -> TrialPictures:
    """A picture with a sky, a ground, discs with sharp edges and fine noise, of about 256×256 pixels.

    It is not a photograph: numbers measured with it compare precisions, and do not compare models.
    """
    channels, height, width = config.fitting_shape(GENERATED_SIDE, GENERATED_SIDE)
    rows, columns = np.mgrid[0:height, 0:width].astype(np.float64) / max(height, width)
    colours = np.stack([0.3 + 0.5 * rows, 0.5 + 0.2 * columns, 0.8 - 0.5 * rows], axis=0)
    generator = np.random.default_rng(0)
    for _ in range(12):
        row, column, radius, *colour = generator.uniform((0, 0, 0.03, 0, 0, 0), (1, 1, 0.15, 1, 1, 1))
        colours[:, np.hypot(rows - row, columns - column) < radius] = np.array(colour)[:, None]
    colours += generator.normal(0, 0.02, colours.shape)
    pixels = np.rint(colours[:channels].clip(0, 1) * 255).astype(np.uint8)
    return TrialPictures((pixels,), f"one generated picture of {shape_text(pixels.shape)}, which is not a photograph")


def pictures_of(folder: Path, config: PretrainedConfig) -> TrialPictures:
    """The first pictures of a folder, in the order of their names, cropped at the centre to sizes of the model.

    Raises:
        CannotImport: the folder or a picture cannot be read, or the folder does not have a picture.
    """
    try:
        paths = sorted(path for path in folder.iterdir() if path.suffix.lower() in _ENDINGS)[:MAX_PICTURES]
    except OSError as error:
        reason = f"the folder of pictures cannot be read: {error.strerror or error}"
        raise CannotImport(folder, reason, remedy=_REMEDY) from error
    if not paths:
        raise CannotImport(folder, "the folder has no picture", remedy=_REMEDY)
    pixels = tuple(_read(path, config) for path in paths)
    sizes = ", ".join(sorted({shape_text(each.shape[1:]) for each in pixels}))
    return TrialPictures(pixels, f"{counted(len(pixels), 'pictures')} cropped to {sizes}: {_names(paths)}")


def _names(paths: list[Path]) -> str:
    return ", ".join(path.name[:40].encode(errors="replace").decode() for path in paths)


def _read(path: Path, config: PretrainedConfig) -> Pixels:
    """The pixels (C, H, W) of a picture file, cropped at the centre; a very small picture is enlarged first."""
    channels, step = config.image_shape[0], config.downscale
    try:
        with open_file(path) as file, Image.open(file, formats=_FORMATS) as picture:
            if picture.width * picture.height > _MAX_PIXELS:
                raise UnusablePicture(f"it has more than {_MAX_PIXELS:,} pixels", "leave it out")
            pixels = picture_to_pixels(picture, (channels, picture.height, picture.width), "none")
            height, width = (max(min(side, MAX_TRIAL_SIDE) // step, 1) * step for side in pixels.shape[1:])
            if min(pixels.shape[1:]) < step:
                return picture_to_pixels(picture, (channels, height, width), "cover")
    except (OSError, UnusablePicture, Image.DecompressionBombError) as error:
        raise CannotImport(path, f"the picture cannot be read: {error}", remedy=_REMEDY) from error
    top, left = (pixels.shape[1] - height) // 2, (pixels.shape[2] - width) // 2
    return np.ascontiguousarray(pixels[:, top : top + height, left : left + width])
