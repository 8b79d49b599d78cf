"""A normalising flow as a distribution of latents: affine couplings (Dinh, Sohl-Dickstein and Bengio 2017, RealNVP).

The flow is a map to normal coordinates whose inverse and Jacobian determinant are exact, and so is its density.
"""

from __future__ import annotations

from math import prod
from typing import cast

import torch
from torch import Tensor, nn

from .config import FlowConfig
from .priors import SMALLEST_DEVIATION, Prior, StandardNormal

MAX_LOG_SCALE = 2.0  # of one coupling: a density that is fitted to few points cannot become a spike


class Coupling(nn.Module):
    """An affine coupling of D values: the values that are kept decide the scale and the shift of the others.

    The digits of a value's number in base 2 decide whether it is kept. Two couplings, which share a digit, keep one
    half of the values each; the next two have the next digit. So every value meets every other one after 2·log₂ D
    couplings, and no mask needs to be stored.
    """

    def __init__(self, values: int, width: int, number: int) -> None:
        super().__init__()
        digits = (values - 1).bit_length()
        self._digit, self._kept = number // 2 % digits, number % 2
        # zeros in the last layer: the flow begins as the identity
        last = nn.Linear(width, 2 * values)
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)
        self.network = nn.Sequential(nn.Linear(values, width), nn.SiLU(), nn.Linear(width, width), nn.SiLU(), last)

    def normalise(self, values: Tensor) -> tuple[Tensor, Tensor]:
        """The values (B, D) one coupling nearer to normal coordinates, and the log-determinant of that step, (B,)."""
        log_scale, shift = self._affine(values)
        return (values - shift) * (-log_scale).exp(), -log_scale.sum(1)

    def generate(self, values: Tensor) -> Tensor:
        """The inverse of `normalise`."""
        log_scale, shift = self._affine(values)
        return values * log_scale.exp() + shift

    def _affine(self, values: Tensor) -> tuple[Tensor, Tensor]:
        """The log-scale and the shift of each value, (B, D); both are 0 for the values that are kept."""
        is_kept = (torch.arange(values.shape[1], device=values.device) >> self._digit & 1) == self._kept
        numbers = self.network(torch.where(is_kept, values, 0))
        log_scale, shift = torch.where(is_kept.repeat(2), 0, numbers).chunk(2, dim=1)
        return MAX_LOG_SCALE * (log_scale / MAX_LOG_SCALE).tanh(), shift


class Flow(nn.Module, Prior):
    """p(z) of latents of a shape: couplings, behind a shift and a scale of each value. A new flow is N(0, I)."""

    is_learned = True

    def __init__(self, config: FlowConfig, latent_shape: tuple[int, ...]) -> None:
        super().__init__()
        values = prod(latent_shape)
        self.shift = nn.Parameter(torch.zeros(values))
        self.log_scale = nn.Parameter(torch.zeros(values))
        self.couplings = nn.ModuleList(Coupling(values, config.width, number) for number in range(config.couplings))

    def from_normal(self, normal: Tensor) -> Tensor:
        """Latents (B, *latent_shape) of normal coordinates."""
        values = normal.flatten(1)
        for coupling in reversed(self._couplings()):
            values = coupling.generate(values)
        return (values * self.log_scale.exp() + self.shift).view(normal.shape)

    def to_normal(self, coordinates: Tensor) -> Tensor:
        """Normal coordinates of latents."""
        return self.normalise(coordinates)[0]

    def log_prob(self, coordinates: Tensor) -> Tensor:
        """log p(z) in nats, (B,): the density of the normal coordinates times the Jacobian determinant."""
        normal, log_determinant = self.normalise(coordinates)
        log_density: Tensor = StandardNormal().log_prob(normal) + log_determinant
        return log_density

    def normalise(self, coordinates: Tensor) -> tuple[Tensor, Tensor]:
        """Normal coordinates of latents, and log |det ∂normal/∂latents|, (B,): Dinh et al. 2017, equation (3)."""
        values = (coordinates.flatten(1) - self.shift) * (-self.log_scale).exp()
        log_determinant = -self.log_scale.sum().expand(len(values))
        for coupling in self._couplings():
            values, more = coupling.normalise(values)
            log_determinant = log_determinant + more
        return values.view(coordinates.shape), log_determinant

    @torch.no_grad()
    def begin_at(self, latents: Tensor, seed: int) -> None:  # noqa: ARG002  # a mixture draws its first means
        """Begin to fit latents (N, *latent_shape): a flow whose couplings are new is the Gaussian of their moments."""
        values = latents.flatten(1)
        self.shift.copy_(values.mean(0))
        self.log_scale.copy_(values.std(0).clamp(min=SMALLEST_DEVIATION).log())

    def _couplings(self) -> list[Coupling]:
        """The couplings, in the order from latents to normal coordinates."""
        return cast("list[Coupling]", list(self.couplings))
