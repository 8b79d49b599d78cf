"""How a model uses its latents: the statistics of each dimension, and the distance of all of them from the prior."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from model_store import VAE, LatentSummary
from model_store.vae import DiagonalGaussian
from model_store.vae.pixels import to_images

ACTIVE_VARIANCE = 0.01

_BATCH_IMAGES = 500
_DIGITS = 5


@dataclass(frozen=True)
class LatentUse:
    """Statistics over images for each latent dimension, (D,) float64, in the posterior's coordinates.

    `mean_variance` is the variance of the posteriors' means; `standard_deviation` belongs to the aggregate
    posterior. The KL is to N(0, 1); to a learned prior, which has no dimensions of its own, it is to the Gaussian of
    the aggregate posterior in that dimension, so that it says how much the dimension tells. None for points.
    """

    mean: Tensor
    mean_variance: Tensor
    standard_deviation: Tensor
    kl_nats: Tensor | None

    @property
    def active(self) -> int:
        """Dimensions whose mean moves with the image: variance above 0.01 (Burda et al. 2016, section 5.2)."""
        return int((self.mean_variance > ACTIVE_VARIANCE).sum())

    @property
    def aggregate_kl_nats(self) -> float:
        """KL to N(0, I) of a diagonal Gaussian with the aggregate posterior's moments: 0 where the two agree."""
        aggregate = DiagonalGaussian(self.mean.unsqueeze(0), 2 * self.standard_deviation.log().unsqueeze(0))
        return aggregate.kl_nats().item()

    def summary(self) -> LatentSummary:
        """The statistics that a card holds."""
        return LatentSummary(
            mean=_rounded(self.mean),
            standard_deviation=_rounded(self.standard_deviation),
            kl_nats=None if self.kl_nats is None else _rounded(self.kl_nats),
        )


@torch.inference_mode()
def latent_use(model: VAE, pixels: Tensor) -> LatentUse:
    """Measure how the model encodes uint8 pixels (N, C, H, W), which are not binarised.

    Raises:
        NoPosterior: the model has no encoder.
    """
    device = model.device
    posteriors = [model.encode(to_images(part.to(device))) for part in torch.split(pixels, _BATCH_IMAGES)]
    means = torch.cat([posterior.mean.flatten(1).double().cpu() for posterior in posteriors])
    between = means.var(0, correction=0)
    gaussians = [posterior for posterior in posteriors if isinstance(posterior, DiagonalGaussian)]
    if not gaussians:
        return LatentUse(means.mean(0), between, between.sqrt(), None)
    within = torch.cat([each.log_variance.flatten(1).double().exp().cpu() for each in gaussians]).mean(0)
    deviation = (between + within).sqrt()
    if model.prior.is_learned:
        # the mean of KL(N(μ, σ²) ‖ N(m, s²)), where m and s² are the moments of all of them
        kl = deviation.log() - torch.cat(
            [0.5 * each.log_variance.flatten(1).double().cpu() for each in gaussians]
        ).mean(0)
    else:
        kl = torch.cat([each.kl_nats_per_dimension().flatten(1).double().cpu() for each in gaussians]).mean(0)
    return LatentUse(means.mean(0), between, deviation, kl)


def _rounded(numbers: Tensor) -> tuple[float, ...]:
    return tuple(float(f"{number:.{_DIGITS}g}") for number in numbers.tolist())
