"""VAE: the network that a `VAEConfig` describes. It encodes images and decodes latents."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from .config import ConvConfig, MLPConfig, ShortcutConvConfig, VAEConfig
from .device import dtype_of
from .family import Direction
from .likelihoods import Likelihood, likelihood
from .networks.conv import ConvDecoder, ConvEncoder
from .networks.mlp import MLPDecoder, MLPEncoder
from .networks.shortcut_conv import ShortcutConvDecoder, ShortcutConvEncoder
from .posterior import DiagonalGaussian, Point
from .priors import prior

# for both ends, exp is a float32 above zero and below infinity
LOG_VARIANCE_RANGE = (-30.0, 20.0)


class NoPosterior(TypeError):
    """The model has no posterior: it has no encoder, or its encoder gives a point."""


class VAE(nn.Module):
    """A variational autoencoder (Kingma and Welling 2014): an encoder q(z|x), a decoder p(x|z) and a prior p(z).

    With `posterior="point"` the model is a plain autoencoder, with `posterior="none"` a decoder without an encoder. The
    weights can have any precision; inputs and outputs are float32.
    """

    def __init__(self, config: VAEConfig) -> None:
        super().__init__()
        self.config = config
        self.prior = prior(config)
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
