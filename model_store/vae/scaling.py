"""Scaling: the numbers that a card has to give latents a standard deviation of 1. It knows no tensors."""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import Field, model_validator

from .record import Record

_MOST = 1e4  # of a number and of a factor: beyond it, float32 would overflow or lose all digits

Magnitude = Annotated[float, Field(ge=1 / _MOST, le=_MOST)]
Shift = Annotated[float, Field(ge=-_MOST, le=_MOST)]
Shifts = Annotated[tuple[Shift, ...], Field(min_length=1, max_length=4096)]
Magnitudes = Annotated[tuple[Magnitude, ...], Field(min_length=1, max_length=4096)]


class Scaling(Record):
    """The numbers that make latents of standard deviation 1: scaled = (latent − shift) · factor.

    With statistics of each channel it is (latent − mean) · factor / standard_deviation instead. The convention is that
    of the diffusers library (`AutoencoderKL`, and the pipelines that use it).
    """

    factor: Magnitude = 1.0
    shift: Shift = 0.0
    mean: Shifts | None = None
    standard_deviation: Magnitudes | None = None

    @model_validator(mode="after")
    def _statistics_belong_together(self) -> Self:
        if (self.mean is None) != (self.standard_deviation is None):
            raise ValueError("mean and standard_deviation belong together; give both, or leave both out")
        if len(self.mean or ()) != len(self.standard_deviation or ()):
            raise ValueError("mean and standard_deviation need a number for each channel, but their lengths differ")
        return self
