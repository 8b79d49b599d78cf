"""Pixels and images: the values of pictures and the values that networks read.

`pixels` are uint8 (B, C, H, W) in 0 … 255, as in picture files; `images` are float (B, C, H, W) in [0, 1], as networks
read them. All functions take batches on any device.
"""

from math import inf, log10

import torch
from torch import Tensor

_MIDDLE_GREY = 128


def to_images(pixels: Tensor) -> Tensor:
    """Images float32 in [0, 1] from uint8 pixels."""
    return pixels.to(torch.float32).div_(255)


def to_pixels(images: Tensor) -> Tensor:
    """uint8 pixels from images in [0, 1], rounded half to even; values outside are clipped."""
    return images.mul(255).round_().clamp_(0, 255).to(torch.uint8)


def inverted(images: Tensor) -> Tensor:
    """The negatives of uint8 pixels, or of float images in [0, 1]."""
    return 255 - images if images.dtype == torch.uint8 else 1 - images


def binarise(pixels: Tensor, uniform: Tensor) -> Tensor:
    """Binary images: each pixel is 1 with its grey value as the probability, drawn by `uniform` noise in [0, 1).

    With new noise in every epoch this is dynamic binarisation (Salakhutdinov and Murray 2008, "On the quantitative
    analysis of deep belief networks", section 5; the protocol of Burda et al. 2016, section 5).
    """
    return (to_images(pixels) > uniform).to(torch.float32)


def threshold(pixels: Tensor) -> Tensor:
    """Binary images without noise: a pixel is 1 if it is middle grey or brighter."""
    return (pixels >= _MIDDLE_GREY).to(torch.float32)


def mean_squared_errors(images: Tensor, originals: Tensor) -> Tensor:
    """The mean squared error (B,) of each image, over its values."""
    return (images - originals).square().flatten(1).mean(1)


def psnr_db(mse: float) -> float:
    """The peak signal-to-noise ratio in decibels of images in [0, 1], from their mean squared error; infinite for 0."""
    return -10 * log10(mse) if mse else inf
