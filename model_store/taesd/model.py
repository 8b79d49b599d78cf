"""TAESD: the networks of the tiny autoencoders, each a short table of layers.

Their source is madebyollin/taesd (`taesd.py`, MIT licence, read in November 2026). The layers have the numbers that
they have there, so that the tensors of a published file have the names of ours. Images are in [0, 1].
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..vae.device import dtype_of
from ..vae.family import Direction
from ..vae.likelihoods import PointImage
from ..vae.networks.doubling import fold_doublings
from ..vae.networks.residual import Residual, added, as_read_by
from ..vae.networks.strips import convolved_in_strips, halved_in_strips, strips_of
from ..vae.posterior import Point
from ..vae.priors import NoPrior, Prior
from .config import WIDTH, TAESDConfig

_LARGEST_LATENT = 3.0  # a decoder squashes its latents into ±3
_GROUPS = 4
_LARGE_MAP = 2**16  # cells, of an image of 2048×2048
# The layers at which the encoder's blocks of the lowest resolution begin, and the decoder's end.
_ENCODER_MIDDLE, _DECODER_MIDDLE = 11, 6
# The layers that work at the resolution of the image: five convolutions, each of which reads a row more on each side.
_ENCODER_HALVED, _HALVED_HALO = 3, 6


class TAESD(nn.Module):
    """A tiny autoencoder: an encoder that gives a point, and a decoder.

    The weights can have any precision; inputs and outputs are float32.
    """

    def __init__(self, config: TAESDConfig) -> None:
        super().__init__()
        self.config = config
        self.prior, self.samplers = NoPrior(), dict[str, Prior]()
        self.encoder = _encoder(config)
        self.decoder = _decoder(config)

    def encode(self, images: Tensor) -> Point:
        """The latents (B, D, H/8, W/8) of float images (B, C, H, W) in [0, 1]."""
        return self.encode_whole(self.encode_local(images))

    def decode(self, latents: Tensor) -> PointImage:
        """Images (B, C, 8h, 8w) given latents (B, D, h, w)."""
        return self.decode_local(self.decode_whole(latents))

    def encode_local(self, images: Tensor) -> Tensor:
        """Features (B, width, H/8, W/8) of images, each of which depends on a bounded part of its image."""
        images = images.to(dtype_of(self.encoder))
        halved = halved_in_strips(self.encoder[:_ENCODER_HALVED], images, WIDTH, _HALVED_HALO)
        features: Tensor = self.encoder[_ENCODER_HALVED:_ENCODER_MIDDLE](halved)
        return features

    def encode_whole(self, features: Tensor) -> Point:
        """Latents of the features of whole images, over which the normalisation takes its statistics."""
        own = features.to(dtype_of(self.encoder), copy=True)  # a block may write into it
        return Point(self.encoder[_ENCODER_MIDDLE:](own).float())

    def decode_whole(self, latents: Tensor) -> Tensor:
        """Features (B, width, h, w) of whole latents, over which the normalisation takes its statistics."""
        features: Tensor = self.decoder[:_DECODER_MIDDLE](latents.to(dtype_of(self.decoder)))
        return features

    def decode_local(self, features: Tensor) -> PointImage:
        """Images of features; each pixel depends on a bounded part of them."""
        return PointImage(self.decoder[_DECODER_MIDDLE:](features.to(dtype_of(self.decoder))).float())

    def modules_of(self, direction: Direction) -> list[nn.Module]:
        """The modules that compute a direction."""
        return [self.encoder if direction == "encode" else self.decoder]

    def simplify(self, *, folds_doublings: bool) -> None:
        """Replace the doublings by layers that give the same numbers, but for rounding, in less time and memory."""
        if folds_doublings:
            fold_doublings(self.decoder)

    @property
    def device(self) -> torch.device:
        """The device that has the weights."""
        return next(self.decoder.parameters()).device


class Squash(nn.Module):
    """3 tanh(z / 3): latents near 0 keep their value, and none is larger than 3."""

    def forward(self, latents: Tensor) -> Tensor:
        """(B, D, h, w) → the same shape."""
        return torch.tanh(latents / _LARGEST_LATENT) * _LARGEST_LATENT


class Block(Residual):
    """relu(x + f(x)), where f is three convolutions: (B, width, h, w) → the same shape.

    With `has_norm`, a branch of 1×1 convolutions around a group normalisation is added to x first. Its statistics are
    taken over the whole image, so each pixel of the output depends on all of the input.
    """

    def __init__(self, has_norm: bool) -> None:
        super().__init__()
        self.conv = nn.Sequential(_conv(WIDTH, WIDTH), _relu(), _conv(WIDTH, WIDTH), _relu(), _conv(WIDTH, WIDTH))
        self.pool = NormBranch() if has_norm else None

    def forward(self, features: Tensor) -> Tensor:
        """(B, width, h, w) → the same shape."""
        if self.pool is not None:
            features = added(features, self.pool(as_read_by(self.pool, features)))
        if len(strips_of(features)) == 1:
            change: Tensor = self.conv(as_read_by(self.conv, features))
            return added(features, change).relu_()
        for image in features.split(1):
            for rows, change in convolved_in_strips(self.conv, image):
                image[:, :, rows].add_(change).relu_()
        return features

    def branches(self) -> list[nn.Module]:
        """The convolutions, and the branch of the normalisation."""
        return [self.conv] if self.pool is None else [self.conv, self.pool]


class NormBranch(nn.Sequential):
    """1×1 convolution to four times the width, group normalisation, activation, 1×1 convolution back."""

    def __init__(self) -> None:
        wide = _GROUPS * WIDTH
        super().__init__(
            nn.Conv2d(WIDTH, wide, kernel_size=1, bias=False),
            nn.GroupNorm(_GROUPS, wide),
            _relu(),
            nn.Conv2d(wide, WIDTH, kernel_size=1, bias=False),
        )

    def forward(self, features: Tensor) -> Tensor:
        """(B, width, h, w) → the same shape; of a large map one group at a time, in a third of the memory."""
        change: Tensor
        if features[0, 0].numel() < _LARGE_MAP:
            change = super().forward(features)  # type: ignore[no-untyped-call]  # torch has no annotation for it
            return change
        widen, scale, shift, narrow = self.parameters()
        change = torch.zeros_like(features)
        for group in range(_GROUPS):
            channels = slice(group * WIDTH, (group + 1) * WIDTH)
            wide = F.group_norm(F.conv2d(features, widen[channels]), 1, scale[channels], shift[channels])
            change += F.conv2d(wide.relu_(), narrow[:, channels])
        return change


def _encoder(config: TAESDConfig) -> nn.Sequential:
    """Images (B, C, H, W) → latents (B, D, H/8, W/8)."""
    channels, latent_channels = config.image_shape[0], config.latent_shape[0]
    return nn.Sequential(
        *(_conv(channels, WIDTH), Block(has_norm=False)),
        *(_halve(), *_blocks(has_norm=False)),
        *(_halve(), *_blocks(has_norm=False)),
        *(_halve(), *_blocks(config.has_middle_norm)),
        _conv(WIDTH, latent_channels),
    )


def _decoder(config: TAESDConfig) -> nn.Sequential:
    """Latents (B, D, h, w) → images (B, C, 8h, 8w)."""
    channels, latent_channels = config.image_shape[0], config.latent_shape[0]
    return nn.Sequential(
        *(Squash(), _conv(latent_channels, WIDTH), _relu()),
        *(*_blocks(config.has_middle_norm), *_double()),
        *(*_blocks(has_norm=False), *_double()),
        *(*_blocks(has_norm=False), *_double()),
        *(Block(has_norm=False), _conv(WIDTH, channels)),
    )


def _blocks(has_norm: bool) -> tuple[Block, ...]:
    return tuple(Block(has_norm) for _ in range(3))


def _conv(channels_in: int, channels_out: int) -> nn.Conv2d:
    return nn.Conv2d(channels_in, channels_out, kernel_size=3, padding=1)


def _relu() -> nn.ReLU:
    """An activation that overwrites its input: new memory costs a third of the time of a large map."""
    return nn.ReLU(inplace=True)


def _halve() -> nn.Conv2d:
    return nn.Conv2d(WIDTH, WIDTH, kernel_size=3, padding=1, stride=2, bias=False)


def _double() -> tuple[nn.Upsample, nn.Conv2d]:
    return nn.Upsample(scale_factor=2), nn.Conv2d(WIDTH, WIDTH, kernel_size=3, padding=1, bias=False)
