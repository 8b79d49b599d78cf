"""VAE: a network built from its configuration. It encodes and decodes, and knows nothing else."""

from __future__ import annotations

from torch import Tensor, nn

from .config import MLPConfig, VAEConfig
from .conv import ConvDecoder, ConvEncoder
from .likelihoods import Bernoulli
from .mlp import MLPDecoder, MLPEncoder
from .posterior import DiagonalGaussian
from .priors import StandardNormal

# exp of either end is finite in float32 and bfloat16, so that no input can make a variance of nothing or of infinity
LOG_VARIANCE_RANGE = (-30.0, 20.0)


class VAE(nn.Module):
    """A variational autoencoder (Kingma and Welling 2014): an encoder q(z|x), a decoder p(x|z) and a prior p(z)."""

    def __init__(self, config: VAEConfig) -> None:
        super().__init__()
        self.config = config
        self.prior = StandardNormal()
        self.encoder, self.decoder = _networks(config)

    def encode(self, images: Tensor) -> DiagonalGaussian:
        """The posterior of float images (B, C, H, W) in [0, 1]."""
        mean, log_variance = self.encoder(images).chunk(2, dim=1)
        return DiagonalGaussian(mean, log_variance.clamp(*LOG_VARIANCE_RANGE))

    def decode(self, latents: Tensor) -> Bernoulli:
        """The likelihood of images given latents (B, *latent_shape)."""
        return Bernoulli(logits=self.decoder(latents))


def _networks(config: VAEConfig) -> tuple[nn.Module, nn.Module]:
    network = config.network
    if isinstance(network, MLPConfig):
        return MLPEncoder(config, network), MLPDecoder(config, network)
    return ConvEncoder(config, network), ConvDecoder(config, network)
