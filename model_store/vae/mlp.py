"""Fully connected encoder and decoder (Kingma and Welling 2014, appendix C), for any image and latent shape."""

from itertools import pairwise
from math import prod

from torch import Tensor, nn

from .config import MLPConfig, VAEConfig
from .linear import Linear

_ACTIVATIONS = {"tanh": nn.Tanh, "relu": nn.ReLU, "silu": nn.SiLU}


class MLPEncoder(nn.Module):
    """Images → what the posterior is made of, side by side along dimension 1."""

    def __init__(self, config: VAEConfig, network: MLPConfig) -> None:
        super().__init__()
        self.hidden = _hidden_layers(network, prod(config.image_shape), *network.hidden)
        self.shape = (config.encoder_channels, *config.latent_shape[1:])
        self.output = Linear(network.hidden[-1], prod(self.shape))

    def forward(self, images: Tensor) -> Tensor:
        """(B, C, H, W) → (B, encoder_channels, …)."""
        features = self.hidden(images.flatten(1))
        outputs: Tensor = self.output(features)
        return outputs.view(-1, *self.shape)


class MLPDecoder(nn.Module):
    """Latents → the numbers of each pixel, which the likelihood interprets."""

    def __init__(self, config: VAEConfig, network: MLPConfig) -> None:
        super().__init__()
        mirrored = network.hidden[::-1]
        self.hidden = _hidden_layers(network, prod(config.latent_shape), *mirrored)
        self.shape = (config.decoder_channels, *config.image_shape[1:])
        self.output = Linear(mirrored[-1], prod(self.shape))

    def forward(self, latents: Tensor) -> Tensor:
        """(B, *latent_shape) → (B, decoder_channels, H, W)."""
        features = self.hidden(latents.flatten(1))
        outputs: Tensor = self.output(features)
        return outputs.view(-1, *self.shape)


def _hidden_layers(network: MLPConfig, *widths: int) -> nn.Sequential:
    activation = _ACTIVATIONS[network.activation]
    return nn.Sequential(*(layer for pair in pairwise(widths) for layer in (Linear(*pair), activation())))
