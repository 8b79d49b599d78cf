"""The prior p(z): the distribution of latents before an image is seen.

Latents have three systems of coordinates. The noise of a draw is in *normal coordinates*, where the prior is the
standard normal. The encoder's posterior is a Gaussian in the *posterior's coordinates*. The decoder reads *latents*.

    normal coordinates ── from_normal ──► the posterior's coordinates ── latents_of ──► latents
                       ◄── to_normal ──                               ◄─ coordinates_of ─

A prior that is learned bends the first arrow, so that the density that the posterior is compared with changes. A
uniform prior bends the second one: densities before and after it have the same ratios, and the KL keeps its closed
form. So nothing else needs to know which prior a model has.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import ClassVar

import torch
from torch import Tensor

SMALLEST_DEVIATION = 1e-3  # with which a fit begins: a latent that never changes has no deviation of its own


class Prior(ABC):
    """A distribution of latents, by its maps to and from normal coordinates and its density.

    Rows belong to each other by their number: every tensor is (B, *latent_shape), and a density is (B,).

    Attributes:
        support: the range of a latent.
        is_learned: whether the density has weights; then its KL to a posterior has no closed form.
    """

    support: ClassVar[tuple[float, float]] = (-math.inf, math.inf)
    is_learned: ClassVar[bool] = False

    @abstractmethod
    def from_normal(self, normal: Tensor) -> Tensor:
        """The posterior's coordinates of normal coordinates."""

    @abstractmethod
    def to_normal(self, coordinates: Tensor) -> Tensor:
        """The normal coordinates of the posterior's coordinates: the inverse of `from_normal`."""

    @abstractmethod
    def log_prob(self, coordinates: Tensor) -> Tensor:
        """The log of the density in the posterior's coordinates, in nats, (B,)."""

    def latents_of(self, coordinates: Tensor) -> Tensor:
        """The latents that a decoder reads, from the posterior's coordinates."""
        return coordinates

    def coordinates_of(self, latents: Tensor) -> Tensor:
        """The posterior's coordinates of latents: the inverse of `latents_of`."""
        return latents

    def sample(self, noise: Tensor) -> Tensor:
        """Latents from standard normal noise."""
        return self.latents_of(self.from_normal(noise))


class StandardNormal(Prior):
    """p(z) = N(0, I)."""

    def from_normal(self, normal: Tensor) -> Tensor:
        """The same numbers."""
        return normal

    def to_normal(self, coordinates: Tensor) -> Tensor:
        """The same numbers."""
        return coordinates

    def log_prob(self, coordinates: Tensor) -> Tensor:
        """log N(z; 0, I) in nats, (B,)."""
        return -0.5 * (coordinates.square() + math.log(2 * math.pi)).flatten(1).sum(1)


class Uniform(StandardNormal):
    """p(z) = U(0, 1) in every dimension, by the probability integral transform u = Φ(z) of a standard normal z.

    The inversion method for random numbers (Devroye 1986, "Non-uniform random variate generation", II.2) is used
    backwards here: Φ of a normal variable is uniform. The posterior is a Gaussian before the transform.
    """

    support: ClassVar[tuple[float, float]] = (0.0, 1.0)

    def latents_of(self, coordinates: Tensor) -> Tensor:
        """Latents in [0, 1]; noise with a deviation below 1 gathers them around ½."""
        latents: Tensor = torch.special.ndtr(coordinates)
        return latents

    def coordinates_of(self, latents: Tensor) -> Tensor:
        """Coordinates of latents in [0, 1]; the ends, which lie at infinity, are moved in by float32's grain."""
        grain = torch.finfo(torch.float32).eps
        coordinates: Tensor = torch.special.ndtri(latents.clamp(grain, 1 - grain))
        return coordinates


class NoPrior(StandardNormal):
    """No prior is known: latents have no other coordinates, and none can be drawn."""
