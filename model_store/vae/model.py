"""VAE: a network built from its configuration. It encodes and decodes, and knows nothing else."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from .config import MLPConfig, VAEConfig
from .conv import ConvDecoder, ConvEncoder
from .likelihoods import Bernoulli
from .mlp import MLPDecoder, MLPEncoder
from .posterior import DiagonalGaussian
from .priors import StandardNormal

# exp of either end is a float32 above zero and below infinity, whatever the image
LOG_VARIANCE_RANGE = (-30.0, 20.0)


class VAE(nn.Module):
    """A variational autoencoder (Kingma and Welling 2014): an encoder q(z|x), a decoder p(x|z) and a prior p(z).

    The networks may be of any precision; what goes in and comes out is float32.
    """

    def __init__(self, config: VAEConfig) -> None:
        super().__init__()
        self.config = config
        self.prior = StandardNormal()
        self.encoder, self.decoder = _networks(config)

    def encode(self, images: Tensor) -> DiagonalGaussian:
        """The posterior of float images (B, C, H, W) in [0, 1]."""
        mean, log_variance = self.encoder(images.to(self._dtype)).float().chunk(2, dim=1)
        return DiagonalGaussian(mean, log_variance.clamp(*LOG_VARIANCE_RANGE))

    def decode(self, latents: Tensor) -> Bernoulli:
        """The likelihood of images given latents (B, *latent_shape)."""
        return Bernoulli(logits=self.decoder(latents.to(self._dtype)).float())

    @property
    def _dtype(self) -> torch.dtype:
        return next(self.parameters()).dtype


def _networks(config: VAEConfig) -> tuple[nn.Module, nn.Module]:
    network = config.network
    if isinstance(network, MLPConfig):
        return MLPEncoder(config, network), MLPDecoder(config, network)
    return ConvEncoder(config, network), ConvDecoder(config, network)
