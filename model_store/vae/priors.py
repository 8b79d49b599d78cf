"""The prior p(z): the distribution of latents before an image is seen.

Every prior is reached from the standard normal: inference happens in *normal coordinates*, where the posterior is a
Gaussian, and `from_normal` carries the result to the latents that a decoder reads. The KL, and any ratio of densities,
is the same on both sides of such a transform, so that nothing else needs to know which prior a model has.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from .config import UniformConfig, VAEConfig


@dataclass(frozen=True)
class StandardNormal:
    """p(z) = N(0, I)."""

    support: ClassVar[tuple[float, float]] = (-math.inf, math.inf)

    def from_normal(self, normal: Tensor) -> Tensor:
        """Latents (B, *latent_shape) from normal coordinates, which are the same numbers."""
        return normal

    def to_normal(self, latents: Tensor) -> Tensor:
        """Normal coordinates of latents: the same."""
        return latents

    def sample(self, noise: Tensor, temperature: float = 1.0) -> Tensor:
        """Latents from standard normal noise; `temperature` scales their standard deviation."""
        return temperature * noise

    def log_prob(self, latents: Tensor) -> Tensor:
        """log p(z) in nats, (B,)."""
        return -0.5 * (latents.square() + math.log(2 * math.pi)).flatten(1).sum(1)


@dataclass(frozen=True)
class Uniform:
    """p(z) = U(0, 1) in every dimension, by the probability integral transform u = Φ(z) of a standard normal z.

    The inversion method for random numbers (Devroye 1986, "Non-uniform random variate generation", II.2) is used
    backwards here: Φ of a normal variable is uniform.
    """

    support: ClassVar[tuple[float, float]] = (0.0, 1.0)

    def from_normal(self, normal: Tensor) -> Tensor:
        """Latents in [0, 1], (B, *latent_shape), from normal coordinates."""
        latents: Tensor = torch.special.ndtr(normal)
        return latents

    def to_normal(self, latents: Tensor) -> Tensor:
        """Normal coordinates of latents in [0, 1]; the ends, which lie at infinity, are moved in by float32's grain."""
        grain = torch.finfo(torch.float32).eps
        normal: Tensor = torch.special.ndtri(latents.clamp(grain, 1 - grain))
        return normal

    def sample(self, noise: Tensor, temperature: float = 1.0) -> Tensor:
        """Latents from standard normal noise; a `temperature` below 1 gathers them around ½."""
        return self.from_normal(temperature * noise)

    def log_prob(self, latents: Tensor) -> Tensor:
        """log p(z) in nats, (B,): 0 inside the unit cube, −∞ outside."""
        inside = ((latents >= 0) & (latents <= 1)).flatten(1).all(1)
        return torch.zeros(len(latents)).to(latents).where(inside, -torch.inf)


@dataclass(frozen=True)
class NoPrior:
    """No prior is known: latents have no other coordinates, and none can be drawn."""

    support: ClassVar[tuple[float, float]] = (-math.inf, math.inf)

    def from_normal(self, normal: Tensor) -> Tensor:
        """Latents (B, *latent_shape): the same numbers."""
        return normal

    def to_normal(self, latents: Tensor) -> Tensor:
        """Latents: the same numbers."""
        return latents


Prior = StandardNormal | Uniform


def prior(config: VAEConfig) -> Prior:
    """The prior that a configuration names."""
    return Uniform() if isinstance(config.prior, UniformConfig) else StandardNormal()
