"""The inference form of a network computes what the network computes."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from model_store.diffusers import DiffusersAutoencoder
from model_store.families import Network
from model_store.inference_form import bring_into_inference_form
from model_store.taesd import TAESD, TAESDConfig
from model_store.vae.networks.winograd import WinogradConv2d

from .library_models import SETTINGS, record

CPU = torch.device("cpu")
FULL = torch.float32
TINY = TAESDConfig(image_shape=(3, None, None), latent_shape=(4, None, None), latent_space="sd1")


def network(name: str) -> Network:
    """A network of a family, with random weights."""
    torch.manual_seed(0)
    if name == "taesd":
        return TAESD(TINY).eval()
    return DiffusersAutoencoder(record(name)).eval()


def kinds_of(modules: list[nn.Module]) -> set[torch.dtype]:
    """The types of the weights of some modules."""
    return {weight.dtype for module in modules for weight in module.parameters()}


@pytest.mark.parametrize("name", ["taesd", *sorted(SETTINGS)])
@torch.inference_mode()
def test_latents_and_images_are_the_same_but_for_rounding(name: str) -> None:
    """Convolutions with the channels last, and doublings, sum in another order."""
    plain = network(name)
    images = torch.rand(1, 3, 32, 64)
    latents = plain.encode(images).mean
    pictures = plain.decode(latents).mean
    faster = copy.deepcopy(plain)

    bring_into_inference_form(faster, CPU, {"encode": FULL, "decode": FULL})

    torch.testing.assert_close(faster.encode(images).mean, latents, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(faster.decode(latents).mean, pictures, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", ["taesd", *sorted(SETTINGS)])
@torch.inference_mode()
def test_weights_stored_in_half_precision_are_rounded_once(name: str) -> None:
    """A service computes them in float32 as they are stored; to round sums of weights again gave errors of 1e-3."""
    stored = network(name).half()
    images = torch.rand(1, 3, 32, 32)
    plain = copy.deepcopy(stored).float()
    latents = plain.encode(images).mean

    bring_into_inference_form(stored, CPU, {"encode": FULL, "decode": FULL})

    torch.testing.assert_close(stored.decode(latents).mean, plain.decode(latents).mean, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", ["taesd", "AutoencoderTiny", "AutoencoderKL", "VQModel"])
def test_doublings_are_folded(name: str) -> None:
    """A release of the library that renames its blocks would make this fail, not only the service slow."""
    faster = network(name)

    bring_into_inference_form(faster, CPU, {"encode": FULL, "decode": FULL})

    assert any(isinstance(module, nn.ConvTranspose2d) for module in faster.modules())
    assert not any(type(module).__name__ in {"Upsample", "Upsample2D", "ResnetBlock2D"} for module in faster.modules())


@pytest.mark.parametrize("name", ["taesd", *sorted(SETTINGS)])
@torch.inference_mode()
def test_each_direction_has_its_type(name: str) -> None:
    """Both directions compute, one in bfloat16, and give float32."""
    mixed = network(name)

    bring_into_inference_form(mixed, CPU, {"encode": FULL, "decode": torch.bfloat16})

    latents = mixed.encode(torch.rand(1, 3, 32, 32)).mean
    assert latents.dtype == mixed.decode(latents).mean.dtype == FULL
    assert kinds_of(mixed.modules_of("encode")) == {FULL}
    assert kinds_of(mixed.modules_of("decode")) == {torch.bfloat16}


@pytest.mark.parametrize("name", ["taesd", "AutoencoderKL", "AutoencoderTiny", "VQModel"])
@torch.inference_mode()
def test_an_encoder_in_bfloat16_sums_in_float32(name: str) -> None:
    """An encoder whose sums are rounded too gives latents that are farther from the latents in float32."""
    plain = network(name)
    images = torch.rand(1, 3, 64, 64)
    latents = plain.encode(images).mean
    rounded = copy.deepcopy(plain).bfloat16().encode(images).mean

    bring_into_inference_form(plain, CPU, {"encode": torch.bfloat16, "decode": torch.bfloat16})

    encoded = plain.encode(images).mean
    assert encoded.dtype == FULL
    assert kinds_of(plain.modules_of("encode")) == {FULL, torch.bfloat16}
    assert (encoded - latents).square().mean() < (rounded - latents).square().mean()


@pytest.mark.parametrize(("device", "is_used"), [("cpu", True), ("meta", False)])
def test_wide_convolutions_are_winograds_on_a_cpu_alone(device: str, is_used: bool) -> None:
    """A device without data stands for a GPU."""
    wide = DiffusersAutoencoder(record("AutoencoderKL"))
    wide.network.decoder.conv_in = nn.Conv2d(128, 128, kernel_size=3, padding=1)

    bring_into_inference_form(wide, torch.device(device), {"encode": FULL, "decode": FULL})

    assert isinstance(wide.network.decoder.conv_in, WinogradConv2d) is is_used
