"""The likelihood p(x|z) of an image, in nats, from the numbers that a decoder gives."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from .config import BernoulliConfig, DiscretisedLogisticConfig, GaussianConfig, VAEConfig

# The density of 8-bit pixels under a Gaussian grows without bound as its variance shrinks; a standard deviation of
# 0.0067, two of 256 grey values, is where it stops.
GAUSSIAN_LOG_VARIANCE_RANGE = (-10.0, 4.0)

# A grey value is e^−5.5 wide; a scale far below that already puts all of the probability on one value.
LOGISTIC_LOG_SCALE_RANGE = (-8.0, 2.0)

_GREATEST_VALUE = 255


@dataclass(frozen=True)
class Bernoulli:
    """Binary pixels, each on with the probability sigmoid(logits); `logits` are (B, C, H, W)."""

    logits: Tensor

    @property
    def mean(self) -> Tensor:
        """Each pixel's probability of being on, (B, C, H, W) in [0, 1]: the picture that people look at."""
        return self.logits.sigmoid()

    def log_prob(self, images: Tensor) -> Tensor:
        """log p(x|z) of binary images in nats, (B,): Kingma and Welling 2014, equation (11).

        Grey images give a cross-entropy here, which is not a likelihood: binarise them first.
        """
        nats = F.binary_cross_entropy_with_logits(self.logits, images, reduction="none")
        return -nats.flatten(1).sum(1)


@dataclass(frozen=True)
class Gaussian:
    """Real-valued pixels around a `location`, (B, C, H, W), with a `log_variance` each, or one for all of them."""

    location: Tensor
    log_variance: Tensor

    @property
    def mean(self) -> Tensor:
        """The locations as a picture, (B, C, H, W), clipped to [0, 1]."""
        return self.location.clamp(0, 1)

    def log_prob(self, images: Tensor) -> Tensor:
        """log p(x|z) in nats, (B,): a density, Kingma and Welling 2014, equation (12).

        With a fixed variance the result is the squared error, scaled and shifted.
        """
        squared = (images - self.location).square() * (-self.log_variance).exp()
        return -0.5 * (squared + self.log_variance + math.log(2 * math.pi)).flatten(1).sum(1)


@dataclass(frozen=True)
class DiscretisedLogistic:
    """8-bit pixels: a logistic distribution whose mass is gathered on the 256 grey values k/255.

    `location` and `log_scale` are (B, C, H, W), on the scale of images in [0, 1].
    """

    location: Tensor
    log_scale: Tensor

    @property
    def mean(self) -> Tensor:
        """The locations as a picture, (B, C, H, W), clipped to [0, 1]."""
        return self.location.clamp(0, 1)

    def log_prob(self, images: Tensor) -> Tensor:
        """log p(x|z) of 8-bit images in nats, (B,): a probability, which over all 256 values of a pixel sums to 1.

        Kingma et al. 2016, "Improved variational inference with inverse autoregressive flow", equation (15); the
        outermost values take the tails, as in Salimans et al. 2017, "PixelCNN++", equation (2). The difference of the
        two sigmoids is σ(a) − σ(b) = σ(a) σ(−b) (1 − e^(b−a)), which avoids cancellation.
        """
        width = (-self.log_scale).exp() / _GREATEST_VALUE  # of a grey value, in scales: a − b
        centre = (images - self.location) * (-self.log_scale).exp()
        below = F.logsigmoid(centre + width / 2).where(images < 1, 0)
        above = F.logsigmoid(width / 2 - centre).where(images > 0, 0)
        between = (-torch.expm1(-width)).log().where((images > 0) & (images < 1), 0)
        return (below + above + between).flatten(1).sum(1)


@dataclass(frozen=True)
class PointImage:
    """One image for each latent, without a distribution, as a plain decoder gives it; `location` is (B, C, H, W)."""

    location: Tensor

    @property
    def mean(self) -> Tensor:
        """The image, (B, C, H, W), clipped to [0, 1]; NaN where the decoder has overflown, which a clip would hide."""
        return self.location.clamp(0, 1).where(self.location.isfinite(), torch.nan)


Likelihood = Bernoulli | Gaussian | DiscretisedLogistic


def likelihood(config: VAEConfig, numbers: Tensor) -> Likelihood:
    """The distribution that a decoder's numbers (B, decoder_channels, H, W) are the parameters of."""
    match config.likelihood:
        case BernoulliConfig():
            return Bernoulli(logits=numbers)
        case GaussianConfig(standard_deviation=float(deviation)):
            return Gaussian(numbers, numbers.new_full((), 2 * math.log(deviation)))
        case GaussianConfig():
            location, log_variance = numbers.chunk(2, dim=1)
            return Gaussian(location, log_variance.clamp(*GAUSSIAN_LOG_VARIANCE_RANGE))
        case DiscretisedLogisticConfig():
            location, log_scale = numbers.chunk(2, dim=1)
            return DiscretisedLogistic(location, log_scale.clamp(*LOGISTIC_LOG_SCALE_RANGE))


def decoder_numbers(config: VAEConfig, mean: Tensor, variance: float, images: int) -> Tensor:
    """The numbers (decoder_channels, H, W) of a decoder that gives the mean of a set of images for every latent.

    `mean` is the mean image (C, H, W) of a number of `images`; `variance` is the mean variance of a pixel around it.
    """
    match config.likelihood:
        case BernoulliConfig():
            # Laplace's rule of succession: a pixel that was never on may be on in another image
            return torch.logit((mean * images + 1) / (images + 2))
        case GaussianConfig(standard_deviation=float()):
            return mean
        case GaussianConfig():
            return torch.cat([mean, torch.full_like(mean, math.log(variance))])
        case DiscretisedLogisticConfig():
            scale = math.sqrt(3 * variance) / math.pi  # of a logistic distribution with that variance
            return torch.cat([mean, torch.full_like(mean, math.log(scale))])
