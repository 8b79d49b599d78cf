"""Fully connected encoder and decoder (Kingma and Welling 2014, appendix C), for any image and latent shape."""

from itertools import pairwise
from math import prod

from torch import Tensor, nn

from .config import MLPConfig, VAEConfig
from .linear import Linear

_ACTIVATIONS = {"tanh": nn.Tanh, "relu": nn.ReLU, "silu": nn.SiLU}


class MLPEncoder(nn.Module):
    """Images → mean and log-variance, side by side along dimension 1."""

    def __init__(self, config: VAEConfig, network: MLPConfig) -> None:
        super().__init__()
        first, *rest = config.latent_shape
        self.hidden = _hidden_layers(network, prod(config.image_shape), *network.hidden)
        self.output = Linear(network.hidden[-1], 2 * prod(config.latent_shape))
        self.shape = (2 * first, *rest)

    def forward(self, images: Tensor) -> Tensor:
        """(B, C, H, W) → (B, 2·latent_shape[0], …)."""
        features = self.hidden(images.flatten(1))
        outputs: Tensor = self.output(features)
        return outputs.view(-1, *self.shape)


class MLPDecoder(nn.Module):
    """Latents → one number per pixel, which the likelihood interprets."""

    def __init__(self, config: VAEConfig, network: MLPConfig) -> None:
        super().__init__()
        mirrored = network.hidden[::-1]
        self.hidden = _hidden_layers(network, prod(config.latent_shape), *mirrored)
        self.output = Linear(mirrored[-1], prod(config.image_shape))
        self.shape = config.image_shape

    def forward(self, latents: Tensor) -> Tensor:
        """(B, *latent_shape) → (B, C, H, W)."""
        features = self.hidden(latents.flatten(1))
        outputs: Tensor = self.output(features)
        return outputs.view(-1, *self.shape)


def _hidden_layers(network: MLPConfig, *widths: int) -> nn.Sequential:
    activation = _ACTIVATIONS[network.activation]
    return nn.Sequential(*(layer for pair in pairwise(widths) for layer in (Linear(*pair), activation())))
