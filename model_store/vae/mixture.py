"""A mixture of Gaussians with diagonal covariances, as a distribution of latents.

Its maps to and from normal coordinates are the transform of Rosenblatt (1952, "Remarks on a multivariate
transformation"): value by value, each given the values before it. They are computed in float64.
"""

from __future__ import annotations

import math
from math import prod

import torch
from torch import Tensor, nn

from .config import MixtureConfig
from .priors import SMALLEST_DEVIATION, Prior

STEPS = 32  # of the bisection: they leave 2e-10 of the interval, and float32 has steps of 6e-8
SMALLEST_TAIL = 1e-300  # of a probability: 37 standard deviations away


class Mixture(nn.Module, Prior):
    """p(z) = Σ π_k N(z; μ_k, diag σ_k²) of latents of a shape."""

    is_learned = True

    def __init__(self, config: MixtureConfig, latent_shape: tuple[int, ...]) -> None:
        super().__init__()
        self.logits = nn.Parameter(torch.zeros(config.components))
        # the means differ from the start: equal components would stay equal
        self.means = nn.Parameter(torch.randn(config.components, prod(latent_shape)))
        self.log_deviations = nn.Parameter(torch.zeros(config.components, prod(latent_shape)))

    def log_prob(self, coordinates: Tensor) -> Tensor:
        """log p(z) in nats, (B,)."""
        distances = (coordinates.flatten(1).unsqueeze(1) - self.means) * (-self.log_deviations).exp()  # (B, K, D)
        densities = -0.5 * (distances.square() + math.log(2 * math.pi)) - self.log_deviations
        return (self.logits.log_softmax(0) + densities.sum(2)).logsumexp(1)

    def to_normal(self, coordinates: Tensor) -> Tensor:
        """Normal coordinates of latents: Φ⁻¹ of each value's distribution function, given the values before it."""
        values = coordinates.flatten(1).double()
        conditional = Conditional(self, len(values))
        normal = []
        for value in values.unbind(1):
            lower, upper = conditional.probability(value, 1), conditional.probability(value, -1)
            tail = torch.special.ndtri(torch.minimum(lower, upper).clamp(min=SMALLEST_TAIL))
            normal.append(torch.where(lower < upper, tail, -tail))
            conditional.observe(value)
        return torch.stack(normal, 1).view(coordinates.shape).to(coordinates.dtype)

    def from_normal(self, normal: Tensor) -> Tensor:
        """Latents of normal coordinates, by bisection; they have no gradient."""
        with torch.no_grad():
            conditional = Conditional(self, len(normal))
            values = []
            for deviation in normal.flatten(1).double().unbind(1):
                values.append(conditional.quantile(deviation))
                conditional.observe(values[-1])
            return torch.stack(values, 1).view(normal.shape).to(normal.dtype)

    @torch.no_grad()
    def begin_at(self, latents: Tensor, seed: int) -> None:
        """Begin to fit latents (N, *latent_shape): the means are some of them, with the deviations of all."""
        values = latents.flatten(1)
        chosen = torch.randint(len(values), (len(self.means),), generator=torch.Generator().manual_seed(seed))
        self.means.copy_(values[chosen.to(values.device)])
        self.log_deviations.copy_(values.std(0).clamp(min=SMALLEST_DEVIATION).log().expand_as(self.means))


class Conditional:
    """The distribution of one value of B latents, given the values before it: a mixture too, with other weights."""

    def __init__(self, mixture: Mixture, rows: int) -> None:
        self._means = mixture.means.double()
        self._deviations = mixture.log_deviations.double().exp()
        self._log_weights = mixture.logits.double().log_softmax(0).expand(rows, -1)  # (B, K)
        self._dimension = 0

    def probability(self, value: Tensor, sign: int | Tensor) -> Tensor:
        """The probability of a smaller value than each of (B,); where `sign` is −1, of a larger one."""
        distances = self._distances(value) * torch.as_tensor(sign, device=value.device).view(-1, 1)
        probability: Tensor = (self._log_weights.exp() * torch.special.ndtr(distances)).sum(1)
        return probability

    def quantile(self, deviation: Tensor) -> Tensor:
        """The value (B,) that is as far from the middle as a standard normal `deviation` (B,), by bisection.

        The quantiles of the single components enclose it. The probability of the nearer tail is compared, which has
        more digits than its complement.
        """
        ends = self._means[:, self._dimension] + self._deviations[:, self._dimension] * deviation.unsqueeze(1)
        low, high = ends.min(1).values, ends.max(1).values
        sign = torch.where(deviation > 0, -1.0, 1.0).double()
        tail = torch.special.ndtr(-deviation.abs())
        for _ in range(STEPS):
            middle = (low + high) / 2
            is_low = sign * (self.probability(middle, sign) - tail) < 0
            low, high = torch.where(is_low, middle, low), torch.where(is_low, high, middle)
        return (low + high) / 2

    def observe(self, value: Tensor) -> None:
        """Go on to the next value, given this one (B,): each component counts as it expected the value."""
        log_densities = -0.5 * self._distances(value).square() - self._deviations[:, self._dimension].log()
        self._log_weights = (self._log_weights + log_densities).log_softmax(1)
        self._dimension += 1

    def _distances(self, value: Tensor) -> Tensor:
        """The distance of each value from each component's mean, in its deviations, (B, K)."""
        return (value.unsqueeze(1) - self._means[:, self._dimension]) / self._deviations[:, self._dimension]
