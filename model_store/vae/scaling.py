"""Scaling: the numbers that a card has to give latents a standard deviation of 1. It knows no tensors."""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import Field, model_validator

from .record import Record

Numbers = Annotated[tuple[float, ...], Field(min_length=1, max_length=4096)]


class Scaling(Record):
    """The numbers that make latents of standard deviation 1: scaled = (latent − shift) · factor.

    With statistics of each channel it is (latent − mean) · factor / standard_deviation instead. The convention is that
    of the diffusers library (`AutoencoderKL`, and the pipelines that use it).
    """

    factor: Annotated[float, Field(gt=0, le=1e4)] = 1.0
    shift: Annotated[float, Field(ge=-1e4, le=1e4)] = 0.0
    mean: Numbers | None = None
    standard_deviation: Numbers | None = None

    @model_validator(mode="after")
    def _statistics_belong_together(self) -> Self:
        if (self.mean is None) != (self.standard_deviation is None):
            raise ValueError("mean and standard_deviation belong together; give both, or leave both out")
        if self.mean is not None and self.standard_deviation is not None:
            if len(self.mean) != len(self.standard_deviation):
                raise ValueError("mean and standard_deviation need a number for each channel, but their lengths differ")
            if min(self.standard_deviation) <= 0:
                raise ValueError("standard_deviation must be greater than 0 for each channel")
        return self
