"""Score statistics: the numbers by which an unusual image may be told, and their quantiles over normal images.

Each statistic is reported as a percentile: the share of the normal images, in percent, that are at least as unusual. It
is near 0 for an unusual image, whichever statistic it is.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Literal, Self, get_args

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from .vae.record import Record

POINTS = 101  # the 0th to the 100th percentile

Statistic = Literal["elbo", "reconstruction", "kl", "distance", "complexity", "typicality"]
STATISTICS: tuple[Statistic, ...] = get_args(Statistic)

Quantiles = Annotated[tuple[float, ...], Field(min_length=POINTS, max_length=POINTS)]
OptionalQuantiles = Annotated[Quantiles | None, Field(exclude_if=lambda quantiles: quantiles is None)]
Numbers = NDArray[np.floating]

_LEAST_DEVIATION = 0.01
_DIGITS = 5


@dataclass(frozen=True)
class Statistics:
    """The numbers of B images by which an unusual one may be told; each is (B,).

    Attributes:
        elbo_nats: the evidence lower bound; low for an unusual image.
        log_likelihood_nats: its first term, the reconstruction; low for an unusual image.
        kl_nats: its second term, the information in the latents; high for an unusual image.
        latent_distance: of the posterior's mean from the latents of normal images, in standard deviations of their
            latents (root mean square over the dimensions); None where the normal images' latents are not known.
        corrected_nats: the ELBO and the nats of the image in a lossless codec: Serrà et al. 2020, "Input complexity and
            out-of-distribution detection with likelihood-based generative models", equation (2), with the other sign.
            Low for an unusual image; None where the codec was not asked.
    """

    elbo_nats: Numbers
    log_likelihood_nats: Numbers
    kl_nats: Numbers
    latent_distance: Numbers | None = None
    corrected_nats: Numbers | None = None


class ScoreQuantiles(Record):
    """The 0th to 100th percentile of each statistic of normal images, and of the nats of a pixel.

    `typicality` is of the two-sided rank of the ELBO. `pixel_nats` are of −log p(pixel | latents), all pixels of all
    images together. Cards of earlier releases have only the ELBO's.
    """

    elbo_nats: Quantiles
    log_likelihood_nats: OptionalQuantiles = None
    kl_nats: OptionalQuantiles = None
    latent_distance: OptionalQuantiles = None
    corrected_nats: OptionalQuantiles = None
    typicality: OptionalQuantiles = None
    pixel_nats: OptionalQuantiles = None
    protocol: str

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        for name, numbers in self:
            if isinstance(numbers, tuple) and list(numbers) != sorted(numbers):
                raise ValueError(f"{name} are quantiles, which never fall, but these fall; sort them")
        return self

    def has(self, statistic: Statistic) -> bool:
        """Whether the quantiles of a statistic are known."""
        return getattr(self, _FIELDS[statistic][0]) is not None

    def percentiles(self, statistic: Statistic, found: Statistics) -> list[float] | None:
        """The share of the normal images, 0 to 100, that are at least as unusual as each image.

        Typicality is two-sided: an image whose ELBO is far above the normal ones is as unusual as one far below, as in
        the test of Nalisnick et al. 2019 ("Detecting out-of-distribution inputs to deep generative models using
        typicality"), but by ranks. None where the statistic or its quantiles are not known.
        """
        name, is_low_unusual = _FIELDS[statistic]
        values, quantiles = getattr(found, name, None), getattr(self, name)
        if statistic == "typicality":
            values = self.two_sided_ranks(found.elbo_nats)
        if values is None or quantiles is None:
            return None
        rank = _rank(values, quantiles)
        percentiles: list[float] = (rank if is_low_unusual else 100 - rank).tolist()
        return percentiles

    def two_sided_ranks(self, elbo_nats: Numbers) -> Numbers:
        """0 for an ELBO outside of all normal ones, up to 100 in their middle, (B,)."""
        rank = _rank(elbo_nats, self.elbo_nats)
        return 2 * np.minimum(rank, 100 - rank)


_FIELDS: dict[Statistic, tuple[str, bool]] = {
    "elbo": ("elbo_nats", True),
    "reconstruction": ("log_likelihood_nats", True),
    "kl": ("kl_nats", False),
    "distance": ("latent_distance", False),
    "complexity": ("corrected_nats", True),
    "typicality": ("typicality", True),
}
"""The field of each statistic, and whether an unusual image has a low value."""


def quantiles_of(numbers: Numbers) -> tuple[float, ...]:
    """The 0th to 100th percentile of numbers, with as many digits as a card shows."""
    return tuple(float(f"{each:.{_DIGITS}g}") for each in np.quantile(numbers, np.linspace(0, 1, POINTS)))


def _rank(values: Numbers, quantiles: Sequence[float]) -> Numbers:
    """The percentile of each value among the numbers that have these quantiles."""
    ranks: Numbers = np.interp(values, quantiles, np.linspace(0, 100, POINTS))
    return ranks


def latent_distance(means: Numbers, mean: Sequence[float], standard_deviation: Sequence[float]) -> Numbers:
    """The distances (B,) of posterior means (B, D) from the latents of normal images.

    It is the root mean square over the dimensions, in standard deviations of the normal images' latents. A dimension
    that never moves counts with a deviation of a hundredth: latents are compared with a standard normal.
    """
    scale = np.maximum(np.asarray(standard_deviation), _LEAST_DEVIATION)
    distances: Numbers = np.sqrt(np.mean(((means - np.asarray(mean)) / scale) ** 2, axis=1))
    return distances
