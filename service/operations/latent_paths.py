"""Paths through the latents: from one to another in normal coordinates, and along single dimensions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

PathKind = Literal["linear", "spherical"]

_SMALLEST_SINE = 1e-4  # below it the quotient at the end of `between` loses float32 digits, and is 0 / 0 at last


def between(start: Tensor, end: Tensor, steps: int, path: PathKind) -> Tensor:
    """Latents (steps, *latent_shape) from `start` to `end`, both included.

    Latents of a normal distribution in many dimensions have nearly the same length. The spherical path keeps that
    length, while the straight path is shorter in the middle (Shoemake 1985, "Animating rotation with quaternion
    curves", section 3.3; White 2016, "Sampling generative networks", section 2.1). Without an angle between the two
    latents the spherical path is the straight one.
    """
    progress = torch.linspace(0, 1, steps).view(steps, *(1,) * start.ndim)
    if path == "linear" or not (start.any() and end.any()):
        return torch.lerp(start, end, progress)
    cosine = torch.cosine_similarity(start.flatten(), end.flatten(), dim=0)
    angle = torch.acos(cosine.clamp(-1, 1))
    if angle.sin() < _SMALLEST_SINE:
        return torch.lerp(start, end, progress)
    return (((1 - progress) * angle).sin() * start + (progress * angle).sin() * end) / angle.sin()


def along(centre: Tensor, spread: Tensor, dims: Sequence[int], steps: int, span: float) -> Tensor:
    """Latents (len(dims)·steps, *latent_shape): a row for each dimension, moved by −span to span times its `spread`.

    Dimensions count the values of a latent in order; `centre` and `spread` are (*latent_shape).
    """
    rows = centre.flatten().repeat(len(dims), steps, 1)
    moves = torch.linspace(-span, span, steps)
    for row, dim in zip(rows, dims, strict=True):
        row[:, dim] += moves * spread.flatten()[dim]
    return rows.view(-1, *centre.shape)
