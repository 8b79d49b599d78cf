"""Fully connected encoder and decoder (Kingma and Welling 2014, appendix C), for any image and latent shape."""

from collections import OrderedDict
from itertools import pairwise
from math import prod

from torch import nn

from ..config import MLPConfig, VAEConfig

_ACTIVATIONS = {"tanh": nn.Tanh, "relu": nn.ReLU, "silu": nn.SiLU}


class MLPEncoder(nn.Sequential):
    """Images → mean and log-variance side by side, or a point: (B, C, H, W) → (B, encoder_channels, …)."""

    def __init__(self, config: VAEConfig, network: MLPConfig) -> None:
        hidden = _hidden_layers(network, prod(config.image_shape), *network.hidden)
        super().__init__(_between(hidden, network.hidden[-1], (config.encoder_channels, *config.latent_shape[1:])))


class MLPDecoder(nn.Sequential):
    """Latents → the numbers that the likelihood reads: (B, *latent_shape) → (B, decoder_channels, H, W)."""

    def __init__(self, config: VAEConfig, network: MLPConfig) -> None:
        mirrored = network.hidden[::-1]
        hidden = _hidden_layers(network, prod(config.latent_shape), *mirrored)
        super().__init__(_between(hidden, mirrored[-1], (config.decoder_channels, *config.image_shape[1:])))


def _between(hidden: nn.Module, width: int, shape: tuple[int, ...]) -> OrderedDict[str, nn.Module]:
    """Layers from tensors of any shape, through the hidden layers, to tensors of `shape`."""
    output = nn.Linear(width, prod(shape))
    return OrderedDict(flatten=nn.Flatten(), hidden=hidden, output=output, unflatten=nn.Unflatten(1, shape))


def _hidden_layers(network: MLPConfig, *widths: int) -> nn.Sequential:
    activation = _ACTIVATIONS[network.activation]
    return nn.Sequential(*(layer for pair in pairwise(widths) for layer in (nn.Linear(*pair), activation())))
