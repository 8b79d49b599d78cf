"""A live service with tiny autoencoders for latents of diffusion models, whose key stands in its address."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor

from model_store import Store
from model_store.taesd import TAESD, TAESDConfig
from model_store.vae.pixels import to_images
from model_store.vae.scaling import Scaling

from ....conftest import GREY, make_model
from ....process import Process, unharmed

KEY = "a-key"
FACTOR, SHIFT = 0.3611, 0.1159  # of Flux
LIMITS = (
    "--reload-s=0",
    "--max-batch-images=1",
    "--max-images-per-request=4",
    "--max-body-bytes=300000",
    "--open-without-key",
)


@dataclass
class Live:
    """A service on the loopback interface, and the networks that it serves."""

    process: Process
    flux: TAESD
    sd: TAESD

    @property
    def url(self) -> str:
        """The address of /v1, with the key in it."""
        host, port = self.process.address
        return f"http://user:{KEY}@{host}:{port}/v1"

    def endpoint(self, operation: str, model: str = "flux") -> str:
        """An address as diffusers takes it."""
        return f"{self.url}/models/{model}/remote/{operation}"


@pytest.fixture(scope="package")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    """One service for all tests of the protocol, since it takes ten seconds to start; flux is its default model."""
    store = Store(tmp_path_factory.mktemp("remote") / "store")
    flux, sd = make_tiny("flux1", 16, Scaling(factor=FACTOR, shift=SHIFT)), make_tiny("sd1", 4, Scaling(factor=0.18215))
    store.publish("flux", flux)
    store.publish("sd", sd)
    store.publish("grey", make_model(GREY))
    process = Process(store.root, *LIMITS, f"--api-keys={KEY}", "--default-model=flux", "--device=cpu")
    try:
        process.collect_log()
        process.wait_until_ready()
        yield Live(process, flux, sd)
        assert unharmed(process) == []
    finally:
        process.kill()


def make_tiny(space: str, channels: int, scaling: Scaling) -> TAESD:
    """A tiny autoencoder with random weights, strong enough that different latents give different pictures."""
    torch.manual_seed(channels)
    config = TAESDConfig(
        image_shape=(3, None, None), latent_shape=(channels, None, None), latent_space=space, scaling=scaling
    )
    network = TAESD(config)
    with torch.no_grad():
        last, *_ = reversed(list(network.decoder.children()))
        last.weight.mul_(20)  # type: ignore[operator]  # a convolution
        last.bias.fill_(0.5)  # type: ignore[operator]
    return network.eval()


@torch.no_grad()
def decoded(network: TAESD, latents: Tensor) -> Tensor:
    """Images (B, 3, H, W) in [0, 1] of latents as a decoder reads them, computed by the network itself."""
    return network.decode(latents).mean


@torch.no_grad()
def encoded(network: TAESD, pixels: Tensor) -> Tensor:
    """Latents of uint8 pixels (B, 3, H, W), computed by the network itself."""
    return network.encode(to_images(pixels)).mean


def draw_latents(count: int = 1, height: int = 6, width: int = 8, channels: int = 16) -> Tensor:
    """Latents (B, D, h, w) as a decoder reads them."""
    return torch.randn(count, channels, height, width, generator=torch.Generator().manual_seed(7))


def draw_pixels(count: int = 1, height: int = 48, width: int = 64) -> Tensor:
    """Pixels uint8 (B, 3, H, W)."""
    noise = torch.Generator().manual_seed(3)
    return torch.randint(0, 256, (count, 3, height, width), dtype=torch.uint8, generator=noise)


def packed(latents: Tensor) -> Tensor:
    """Latents (B, D, h, w) as rows of 2×2 patches (B, h/2 · w/2, 4D), in the order of the Flux pipelines."""
    count, channels, height, width = latents.shape
    rows = [
        latents[:, :, row : row + 2, column : column + 2].reshape(count, channels * 4)
        for row in range(0, height, 2)
        for column in range(0, width, 2)
    ]
    return torch.stack(rows, dim=1)
