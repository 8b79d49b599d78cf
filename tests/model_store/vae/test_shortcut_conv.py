"""The convolutional network for pictures adds no checkerboard, and no frame to gradients."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from model_store.vae import VAE, Gaussian, GaussianConfig, ShortcutConvConfig, VAEConfig

SIDE, STEPS = 16, 300


class Calls(TorchFunctionMode):
    """The activations and the layers with weights that torch computes in a block, in their order."""

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Note the call, and compute it."""
        if function is torch.nn.functional.silu:
            self.names.append("silu")
        elif function in (torch.conv2d, torch.conv_transpose2d, torch.nn.functional.linear) and args[1].requires_grad:
            self.names.append("layer")
        return function(*args, **(kwargs or {}))


def gradients(count: int, generator: torch.Generator) -> Tensor:
    """Pictures (count, 3, SIDE, SIDE) in which each colour goes evenly from one value to another, without noise."""
    place = torch.linspace(-1, 1, SIDE)
    middle, across, down = torch.rand(3, count, 3, 1, 1, generator=generator)
    slope = torch.minimum(middle, 1 - middle)
    pictures: Tensor = middle + slope * ((across - 0.5) * place + (down - 0.5) * place[:, None])
    return pictures


def errors_after_training(config: VAEConfig) -> Tensor:
    """The errors (N, C, H, W) of gradients that a small plain autoencoder has not seen, after a short training."""
    torch.manual_seed(0)
    generator = torch.Generator().manual_seed(0)
    model = VAE(config)
    optimiser = torch.optim.Adam(model.parameters(), lr=3e-3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, STEPS)
    for _ in range(STEPS):
        images = gradients(32, generator)
        optimiser.zero_grad()
        (-model.decode(model.encode(images).mean).log_prob(images).mean()).backward()
        optimiser.step()
        schedule.step()
    with torch.no_grad():
        images = gradients(500, generator)
        decoded = model.decode(model.encode(images).mean)
    assert isinstance(decoded, Gaussian)
    return decoded.location - images


@pytest.fixture(scope="module")
def errors() -> Tensor:
    """The errors of a network that was trained for some seconds."""
    return errors_after_training(
        VAEConfig(
            image_shape=(3, SIDE, SIDE),
            latent_shape=(8, SIDE // 4, SIDE // 4),
            network=ShortcutConvConfig(widths=(16, 32)),
            posterior="point",
            likelihood=GaussianConfig(standard_deviation=0.1),
        )
    )


def test_all_colours_are_learned(errors: Tensor) -> None:
    """A picture of one grey has no frame either: the tests below would pass for the wrong reason."""
    assert errors.square().mean((0, 2, 3)).max() < 1e-3


def test_pictures_have_no_frame(errors: Tensor) -> None:
    """The outermost ring of pixels is about as right as the pixels inside."""
    squared = errors.square().mean((0, 1))
    is_inside = torch.zeros(SIDE, SIDE, dtype=torch.bool)
    is_inside[1:-1, 1:-1] = True

    assert squared[~is_inside].mean() <= 1.2 * squared[is_inside].mean()


def test_pictures_have_no_checkerboard(errors: Tensor) -> None:
    """The spectrum of the errors has no peak at the frequencies of the two doublings: periods of 2 and 4 pixels."""
    spectrum = torch.fft.fft2(errors).abs().square().mean((0, 1))
    power = spectrum.sum(0) + spectrum.sum(1)  # by the number of periods in a picture
    half, quarter = SIDE // 2, SIDE // 4

    assert power[half] <= 1.1 * power[half - 1]
    assert power[quarter] <= 1.1 * (power[quarter - 1] + power[quarter + 1]) / 2


@pytest.mark.parametrize("blocks", [0, 1, 2])
@pytest.mark.parametrize("hidden", [None, 5], ids=["grid", "vector"])
def test_an_activation_is_between_every_two_layers_with_weights(blocks: int, hidden: int | None) -> None:
    """Without it, two convolutions in a row would be one."""
    shape: tuple[int, ...] = (2, 2, 2) if hidden is None else (2,)
    network = ShortcutConvConfig(widths=(4, 8, 16), blocks=blocks, hidden=hidden)
    model = VAE(VAEConfig(image_shape=(3, 16, 16), latent_shape=shape, network=network, posterior="point"))

    with Calls() as encoding:
        latents = model.encode(torch.randn(1, 3, 16, 16)).mean
    with Calls() as decoding:
        model.decode(latents.detach())

    for calls in (encoding, decoding):
        assert calls.names.count("layer") >= 4 + 4 * blocks
        assert all("silu" in pair for pair in pairwise(calls.names))
