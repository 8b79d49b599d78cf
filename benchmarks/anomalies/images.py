"""Normal images, and images that differ from them in one known way; uint8 (N, C, H, W)."""

from __future__ import annotations

import gzip
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from training.sources.idx import TEST, TRAIN, find, read_images

PATCH, DEFECT = 64, (5, 14)  # sides in pixels
FORMATS = ["PNG", "JPEG"]
_SCALES = (1.0, 0.5, 0.35)  # of a photograph, of which patches are cut
_HEADER_BYTES = 8


class Family(NamedTuple):
    """The images of a data set like MNIST, and their classes, (N,)."""

    train: Tensor
    train_classes: Tensor
    test: Tensor
    test_classes: Tensor


def family(folder: Path) -> Family:
    """A data set like MNIST from its four files."""
    parts = []
    for images in (TRAIN, TEST):
        path = _found(folder, images)
        packed = _found(folder, images.replace("images-idx3", "labels-idx1")).read_bytes()
        classes = np.frombuffer(gzip.decompress(packed)[_HEADER_BYTES:], np.uint8).copy()
        parts += [read_images(path), torch.from_numpy(classes)]
    return Family(*parts)


def changed(normal: Tensor, generator: torch.Generator) -> dict[str, Tensor]:
    """Images that anyone would call unusual beside grey pictures on a black ground."""
    shape = tuple(normal.shape[1:])
    half = shape[-1] // 2
    return {
        "black": torch.zeros(1, *shape, dtype=torch.uint8),
        "white": torch.full((1, *shape), 255, dtype=torch.uint8),
        "noise": torch.randint(0, 256, tuple(normal.shape), generator=generator).to(torch.uint8),
        "inverted": 255 - normal,
        "shifted by 8 pixels": torch.roll(normal, 8, 3),
        "right half cut": torch.cat([normal[..., :half], torch.zeros_like(normal[..., half:])], 3),
    }


def patches(photos: Sequence[Path], count: int, seed: int) -> Tensor:
    """Square colour patches of photographs at several scales, the same number of each photograph."""
    draw = np.random.default_rng(seed)
    pictures = [Image.open(path, formats=FORMATS).convert("RGB") for path in photos]
    scaled = [
        [np.asarray(each.resize((round(each.width * scale), round(each.height * scale)))) for scale in _SCALES]
        for each in pictures
    ]
    found = []
    for index in range(count):
        sizes = scaled[index % len(scaled)]
        picture = sizes[draw.integers(len(sizes))]
        top, left = (draw.integers(side - PATCH + 1) for side in picture.shape[:2])
        found.append(picture[top : top + PATCH, left : left + PATCH])
    return torch.from_numpy(np.stack(found)).permute(0, 3, 1, 2).contiguous()


def with_defect(normal: Tensor, seed: int) -> Tensor:
    """The images, each with a scratch painted in: a small rectangle of one colour at some place."""
    draw, defective = np.random.default_rng(seed), normal.clone()
    for image in defective:
        height, width = DEFECT if draw.random() < 0.5 else DEFECT[::-1]
        top, left = draw.integers(image.shape[1] - height), draw.integers(image.shape[2] - width)
        colour = torch.from_numpy(draw.integers(0, 256, 3, dtype=np.uint8))
        image[:, top : top + height, left : left + width] = colour.view(3, 1, 1)
    return defective


def _found(folder: Path, name: str) -> Path:
    path = find(folder, name)
    if path is None:
        raise SystemExit(f"{folder} has no {name}; name a folder with the four files of MNIST or Fashion-MNIST")
    return path
