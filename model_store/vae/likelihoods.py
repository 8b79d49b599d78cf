"""The likelihood p(x|z) of an image, in nats, from the numbers that a decoder gives."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from .config import (
    MIN_DEVIATION,
    BernoulliConfig,
    DiscretisedLogisticConfig,
    GaussianConfig,
    LogisticMixtureConfig,
    VAEConfig,
)

# The density of 8-bit pixels under a Gaussian grows without bound as its variance shrinks; a standard deviation of
# 0.0067, two of 256 grey values, is where it stops.
GAUSSIAN_LOG_VARIANCE_RANGE = (-10.0, 4.0)

# A grey value is e^−5.5 wide; a scale far below that already puts all of the probability on one value.
LOGISTIC_LOG_SCALE_RANGE = (-8.0, 2.0)

_GREATEST_VALUE = 255
_MIDDLE = 0.5  # of the values of a colour


class IndependentPixels(ABC):
    """A distribution of images whose pixels are independent of each other, given the latents."""

    @abstractmethod
    def _of_values(self, images: Tensor) -> Tensor:
        """The logarithms of densities or probabilities (B, ·, H, W), whose sum over dimension 1 belongs to a pixel."""

    def log_prob(self, images: Tensor) -> Tensor:
        """log p(x|z) of images (B, C, H, W) in nats, (B,)."""
        return self._of_values(images).flatten(1).sum(1)

    def log_prob_of_pixels(self, images: Tensor) -> Tensor:
        """log p(x|z) of each pixel of images (B, C, H, W) in nats, all of its colours together, (B, H, W)."""
        return self._of_values(images).sum(1)


@dataclass(frozen=True)
class Bernoulli(IndependentPixels):
    """Binary pixels, each on with the probability sigmoid(logits); `logits` are (B, C, H, W)."""

    logits: Tensor

    @property
    def mean(self) -> Tensor:
        """Each pixel's probability of being on, (B, C, H, W) in [0, 1]: the picture that people look at."""
        return self.logits.sigmoid()

    def _of_values(self, images: Tensor) -> Tensor:
        """The log-probability of binary images: Kingma and Welling 2014, equation (11).

        Grey images give a cross-entropy here, which is not a likelihood: binarise them first.
        """
        return -F.binary_cross_entropy_with_logits(self.logits, images, reduction="none")


@dataclass(frozen=True)
class Gaussian(IndependentPixels):
    """Real-valued pixels around a `location`, (B, C, H, W), with a `log_variance` each, or one for all of them."""

    location: Tensor
    log_variance: Tensor

    @property
    def mean(self) -> Tensor:
        """The locations as a picture, (B, C, H, W), clipped to [0, 1]."""
        return self.location.clamp(0, 1)

    def with_best_variance(self, images: Tensor) -> Gaussian:
        """The same locations with the one variance under which the images (B, C, H, W) are most likely.

        It is their mean squared error (Rybkin, Daniilidis and Levine 2021, optimal σ-VAE), and not below the least
        that a `GaussianConfig` may have. No gradient flows through it: at the optimum, that of the mean of log p(x|z)
        is zero.
        """
        variance = (images - self.location).detach().square().mean()
        return Gaussian(self.location, variance.clamp(min=MIN_DEVIATION**2).log())

    def _of_values(self, images: Tensor) -> Tensor:
        """A density: Kingma and Welling 2014, equation (12).

        With a fixed variance the result is the squared error, scaled and shifted.
        """
        squared = (images - self.location).square() * (-self.log_variance).exp()
        return -0.5 * (squared + self.log_variance + math.log(2 * math.pi))


@dataclass(frozen=True)
class DiscretisedLogistic(IndependentPixels):
    """8-bit pixels: a logistic distribution whose mass is gathered on the 256 grey values k/255.

    `location` and `log_scale` are (B, C, H, W), on the scale of images in [0, 1].
    """

    location: Tensor
    log_scale: Tensor

    @property
    def mean(self) -> Tensor:
        """The locations as a picture, (B, C, H, W), clipped to [0, 1]."""
        return self.location.clamp(0, 1)

    def _of_values(self, images: Tensor) -> Tensor:
        """The log-probability of 8-bit images; the probabilities of all 256 values of a colour sum to 1.

        Kingma et al. 2016, "Improved variational inference with inverse autoregressive flow", equation (15).
        """
        return _logistic_log_mass(images, self.location, self.log_scale)


@dataclass(frozen=True)
class LogisticMixture(IndependentPixels):
    """8-bit pixels: for each pixel a mixture of K discretised logistic distributions over its colours together.

    `log_weight` is (B, K, H, W), `location` and `log_scale` are (B, K, C, H, W). In a component, the location of a
    colour moves with the values of the colours before it, by a `coupling` in [−1, 1] for each pair:
    (B, K, C (C − 1) / 2, H, W), of green with red, blue with red, blue with green.

    Source: Salimans et al. 2017, "PixelCNN++", sections 2.1 and 2.2, equations (1) to (3); colours in [0, 1] here.
    """

    log_weight: Tensor
    location: Tensor
    log_scale: Tensor
    coupling: Tensor

    @property
    def mean(self) -> Tensor:
        """The mean colours as a picture, (B, C, H, W), clipped to [0, 1]."""
        colours: list[Tensor] = []
        for colour in range(self.location.shape[2]):
            colours.append(self._location_of(colour, colours))
        means = torch.stack(colours, 2)
        return (self.log_weight.exp().unsqueeze(2) * means).sum(1).clamp(0, 1)

    def _of_values(self, images: Tensor) -> Tensor:
        """The log-probability of 8-bit images, (B, 1, H, W); the probabilities of all colours of a pixel sum to 1."""
        given = images.unsqueeze(1).unbind(2)  # for each colour (B, 1, H, W)
        locations = torch.stack([self._location_of(colour, given) for colour in range(len(given))], 2)
        mass = _logistic_log_mass(images.unsqueeze(1), locations, self.log_scale).sum(2)  # (B, K, H, W)
        return (self.log_weight + mass).logsumexp(1, keepdim=True)

    def _location_of(self, colour: int, before: Sequence[Tensor]) -> Tensor:
        """The locations of a colour, (B, K, H, W), given those before it."""
        first = colour * (colour - 1) // 2
        moves = [self.coupling[:, :, first + other] * (before[other] - _MIDDLE) for other in range(colour)]
        return sum(moves, self.location[:, :, colour])


@dataclass(frozen=True)
class PointImage:
    """One image for each latent, without a distribution, as a plain decoder gives it; `location` is (B, C, H, W)."""

    location: Tensor

    @property
    def mean(self) -> Tensor:
        """The image, (B, C, H, W), clipped to [0, 1]; NaN where the decoder has overflown, which a clip would hide."""
        return self.location.clamp(0, 1).where(self.location.isfinite(), torch.nan)


Likelihood = Bernoulli | Gaussian | DiscretisedLogistic | LogisticMixture


def likelihood(config: VAEConfig, numbers: Tensor) -> Likelihood:
    """The distribution that a decoder's numbers (B, decoder_channels, H, W) are the parameters of.

    Where a value has two numbers, the locations of all channels come before the others. In a mixture, one component
    comes after the other: its weight, locations, logarithms of scales, and couplings.
    """
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
        case LogisticMixtureConfig(components=components):
            channels = config.image_shape[0]
            parts = [1, channels, channels, channels * (channels - 1) // 2]
            weight, location, log_scale, coupling = numbers.unflatten(1, (components, -1)).split(parts, 2)
            return LogisticMixture(
                weight.squeeze(2).log_softmax(1),
                location,
                log_scale.clamp(*LOGISTIC_LOG_SCALE_RANGE),
                coupling.tanh(),
            )


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
            return torch.cat([mean, torch.full_like(mean, _log_scale(variance))])
        case LogisticMixtureConfig(components=components):
            channels, *size = mean.shape
            pairs = mean.new_zeros(channels * (channels - 1) // 2, *size)
            alike = torch.cat([mean.new_zeros(1, *size), mean, torch.full_like(mean, _log_scale(variance)), pairs])
            return alike.repeat(components, 1, 1)


def _log_scale(variance: float) -> float:
    """The logarithm of the scale of a logistic distribution with that variance."""
    return math.log(math.sqrt(3 * variance) / math.pi)


def _logistic_log_mass(images: Tensor, location: Tensor, log_scale: Tensor) -> Tensor:
    """The logarithm of the mass that a logistic distribution gives each value of 8-bit images.

    The outermost values take the tails, as in Salimans et al. 2017, "PixelCNN++", equation (2). The difference of the
    two sigmoids is σ(a) − σ(b) = σ(a) σ(−b) (1 − e^(b−a)), which avoids cancellation.
    """
    width = (-log_scale).exp() / _GREATEST_VALUE  # of a grey value, in scales: a − b
    centre = (images - location) * (-log_scale).exp()
    below = F.logsigmoid(centre + width / 2).where(images < 1, 0)
    above = F.logsigmoid(width / 2 - centre).where(images > 0, 0)
    between = (-torch.expm1(-width)).log().where((images > 0) & (images < 1), 0)
    return below + above + between
