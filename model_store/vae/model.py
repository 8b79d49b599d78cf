"""VAE: the network that a `VAEConfig` describes. It encodes images and decodes latents."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn

from .config import (
    ConvConfig,
    FlowConfig,
    MixtureConfig,
    MLPConfig,
    ShortcutConvConfig,
    StandardNormalConfig,
    UniformConfig,
    VAEConfig,
)
from .device import dtype_of
from .family import Direction, SamplerName
from .flow import Flow
from .likelihoods import Likelihood, likelihood
from .mixture import Mixture
from .networks.conv import ConvDecoder, ConvEncoder
from .networks.mlp import MLPDecoder, MLPEncoder
from .networks.shortcut_conv import ShortcutConvDecoder, ShortcutConvEncoder
from .posterior import DiagonalGaussian, Point
from .priors import Prior, StandardNormal, Uniform

# for both ends, exp is a float32 above zero and below infinity
LOG_VARIANCE_RANGE = (-30.0, 20.0)


class NoPosterior(TypeError):
    """The model has no posterior: it has no encoder, or its encoder gives a point."""


class VAE(nn.Module):
    """A variational autoencoder (Kingma and Welling 2014): an encoder q(z|x), a decoder p(x|z) and a prior p(z).

    With `posterior="point"` the model is a plain autoencoder, with `posterior="none"` a decoder without an encoder. The
    weights can have any precision; inputs and outputs are float32. `samplers` has fitted distributions by their kind.
    """

    def __init__(self, config: VAEConfig) -> None:
        super().__init__()
        self.config = config
        self.prior = _distribution(config.prior, config.latent_shape)
        self.samplers = nn.ModuleDict(
            {
                sampler.kind: cast("nn.Module", _distribution(sampler, config.latent_shape))
                for sampler in config.samplers
            }
        )
        self.encoder = None if config.posterior == "none" else _encoder(config)
        self.decoder = _decoder(config)

    def encode(self, images: Tensor) -> DiagonalGaussian | Point:
        """The posterior, or the point of a plain autoencoder, of float images (B, C, H, W) in [0, 1].

        Raises:
            NoPosterior: the model has no encoder.
        """
        if self.encoder is None:
            raise NoPosterior("A model whose posterior is none has no encoder")
        numbers = self.encoder(images.to(dtype_of(self.encoder))).float()
        if self.config.posterior == "point":
            return Point(numbers)
        mean, log_variance = numbers.chunk(2, dim=1)
        return DiagonalGaussian(mean, log_variance.clamp(*LOG_VARIANCE_RANGE))

    def posterior(self, images: Tensor) -> DiagonalGaussian:
        """The posterior distribution of float images (B, C, H, W) in [0, 1].

        Raises:
            NoPosterior: the model is a plain autoencoder, or a decoder without an encoder.
        """
        posterior = self.encode(images)
        if isinstance(posterior, Point):
            raise NoPosterior("A plain autoencoder gives a point, not a distribution")
        return posterior

    def decode(self, latents: Tensor) -> Likelihood:
        """The likelihood of images given latents (B, *latent_shape)."""
        return likelihood(self.config, self.decoder(latents.to(dtype_of(self.decoder))).float())

    def sampler(self, name: SamplerName | None = None) -> Prior:
        """The distribution of a name from which samples can be drawn; without a name, the first that the model has.

        Raises:
            KeyError: the model has no such sampler.
        """
        name = name or next(iter(self.config.sampler_names), "prior")
        if name not in self.config.sampler_names:
            raise KeyError(name)
        return self.prior if name == "prior" else cast("Prior", self.samplers[name])

    def sample(self, noise: Tensor, sampler: SamplerName | None = None) -> Tensor:
        """Latents (B, *latent_shape) from standard normal noise, by the sampler of a name, or the first.

        Raises:
            KeyError: the model has no such sampler.
        """
        return self.prior.latents_of(self.sampler(sampler).from_normal(noise))

    def modules_of(self, direction: Direction) -> list[nn.Module]:
        """The modules that compute a direction; a decoder without an encoder has none that encode."""
        module = self.encoder if direction == "encode" else self.decoder
        return [] if module is None else [module]

    def simplify(self, *, folds_doublings: bool) -> None:  # as other families have it
        """Replace layers by others that give the same numbers in less time; this family has no such layers."""

    @property
    def device(self) -> torch.device:
        """The device that has the weights."""
        return next(self.decoder.parameters()).device


def _distribution(
    config: StandardNormalConfig | UniformConfig | FlowConfig | MixtureConfig, latent_shape: tuple[int, ...]
) -> Prior:
    match config:
        case FlowConfig():
            return Flow(config, latent_shape)
        case MixtureConfig():
            return Mixture(config, latent_shape)
        case UniformConfig():
            return Uniform()
        case _:
            return StandardNormal()


def _encoder(config: VAEConfig) -> nn.Module:
    match config.network:
        case MLPConfig() as network:
            return MLPEncoder(config, network)
        case ConvConfig() as network:
            return ConvEncoder(config, network)
        case ShortcutConvConfig() as network:
            return ShortcutConvEncoder(config, network)


def _decoder(config: VAEConfig) -> nn.Module:
    match config.network:
        case MLPConfig() as network:
            return MLPDecoder(config, network)
        case ConvConfig() as network:
            return ConvDecoder(config, network)
        case ShortcutConvConfig() as network:
            return ShortcutConvDecoder(config, network)
