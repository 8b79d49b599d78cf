"""Large maps go through layers in strips, with the outputs of the whole map."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import pytest
import torch
from torch import Tensor, nn

from model_store.inference_form import bring_into_inference_form
from model_store.taesd import TAESD, TAESDConfig
from model_store.taesd.model import Block
from model_store.vae.networks import strips
from model_store.vae.networks.strips import convolved_in_strips, strips_of
from model_store.vae.networks.winograd import use_winograd


@pytest.fixture
def narrow_strips(monkeypatch: pytest.MonkeyPatch) -> None:
    """Strips of a few rows."""
    monkeypatch.setattr(strips, "_STRIP_NUMBERS", 300)


def layers(*channels: int) -> nn.Sequential:
    """Convolutions with activations between."""
    torch.manual_seed(0)
    convolutions = [nn.Conv2d(one, two, kernel_size=3, padding=1) for one, two in pairwise(channels)]
    between = [each for convolution in convolutions for each in (convolution, nn.ReLU(inplace=True))]
    return nn.Sequential(*between[:-1])


@pytest.mark.parametrize("height", [1, 2, 3, 5, 16, 31])
@pytest.mark.usefixtures("narrow_strips")
@torch.inference_mode()
def test_strips_are_the_rows_of_a_map(height: int) -> None:
    rows = [row for strip in strips_of(torch.zeros(2, 5, height, 20)) for row in range(height)[strip]]

    assert rows == list(range(height))


@pytest.mark.parametrize(
    ("shape", "device"),
    [
        pytest.param((1, 64, 128, 128), "cpu", id="small"),
        pytest.param((1, 64, 2048, 2048), "meta", id="without data, which stands for a GPU"),
        pytest.param((1, 2**23, 1, 1), "cpu", id="one row"),
    ],
)
def test_a_map_stays_whole(shape: tuple[int, ...], device: str) -> None:
    assert strips_of(torch.empty(shape, device=device)) == [slice(0, shape[2])]


@pytest.mark.parametrize("channels", [(4, 4), (5, 6, 3), (4, 4, 4, 4)], ids=str)
@pytest.mark.parametrize(("count", "height", "width"), [(1, 40, 20), (2, 33, 7), (3, 9, 90), (1, 5, 200)])
@pytest.mark.usefixtures("narrow_strips")
@torch.inference_mode()
def test_outputs_are_those_of_the_whole_map(channels: tuple[int, ...], count: int, height: int, width: int) -> None:
    chain, features = layers(*channels), torch.randn(count, channels[0], height, width)
    wanted = chain(features)
    rows: list[int] = []
    parts: list[Tensor] = []

    for strip, outputs in convolved_in_strips(chain, features):
        rows += range(height)[strip]
        parts.append(outputs.clone())

    assert rows == list(range(height))
    torch.testing.assert_close(torch.cat(parts, 2), wanted, rtol=1e-4, atol=1e-5)


@torch.inference_mode()
def test_a_strip_takes_winograds_convolution(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its outputs differ from the direct sums by rounding, so equal ones would show that it was not used."""
    monkeypatch.setattr(strips, "_STRIP_NUMBERS", 2**20)
    chain, features = layers(64, 64, 64), torch.randn(1, 64, 130, 256)
    direct = chain(features)

    use_winograd(chain)
    outputs = torch.cat([part.clone() for _, part in convolved_in_strips(chain, features)], 2)

    assert not torch.equal(outputs, direct)
    torch.testing.assert_close(outputs, direct, rtol=1e-4, atol=1e-4)


@pytest.mark.usefixtures("narrow_strips")
@torch.inference_mode()
def test_rows_with_outputs_may_be_changed() -> None:
    """So the sum of a residual block takes the place of its input."""
    chain, features = layers(4, 4, 4), torch.randn(1, 4, 60, 20)
    wanted = features + chain(features)

    for strip, outputs in convolved_in_strips(chain, features):
        features[:, :, strip] += outputs

    torch.testing.assert_close(features, wanted, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("has_norm", [True, False], ids=["norm", "no norm"])
@torch.inference_mode()
def test_a_block_of_a_tiny_autoencoder_is_the_same_in_strips(has_norm: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    block, features = Block(has_norm), torch.randn(2, 64, 41, 24)
    whole = block(features.clone())

    monkeypatch.setattr(strips, "_STRIP_NUMBERS", 2**13)

    torch.testing.assert_close(block(features), whole, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("numbers", [64 * 2 * 40, 64 * 16 * 40, 64 * 30 * 40], ids=["two rows", "16", "30"])
@torch.inference_mode()
def test_an_encoder_of_a_tiny_autoencoder_is_the_same_in_strips(numbers: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The map of the image's size then never exists as a whole."""
    torch.manual_seed(0)
    config = TAESDConfig(image_shape=(3, None, None), latent_shape=(4, None, None), latent_space="sd1")
    tiny, images = TAESD(config).eval(), torch.rand(2, 3, 88, 40)
    whole = tiny.encode(images).mean

    monkeypatch.setattr(strips, "_STAGE_NUMBERS", numbers)

    torch.testing.assert_close(tiny.encode(images).mean, whole, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("numbers", [300, 2**21], ids=["strips", "whole"])
@torch.inference_mode()
def test_tensors_of_the_caller_stay_as_they_are(
    kind: torch.dtype, numbers: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A row that is not finite in half precision is computed again from the same inputs."""
    monkeypatch.setattr(strips, "_STRIP_NUMBERS", numbers)
    config = TAESDConfig(image_shape=(3, None, None), latent_shape=(4, None, None), latent_space="sd1")
    tiny, given = TAESD(config).eval(), torch.rand(1, 3, 64, 64)
    bring_into_inference_form(tiny, torch.device("cpu"), {"encode": kind, "decode": kind})
    steps: list[Callable[[Tensor], Tensor]] = [
        tiny.encode_local,
        lambda features: tiny.encode_whole(features).mean,
        tiny.decode_whole,
        lambda features: tiny.decode_local(features).mean,
    ]

    for step in steps:
        before = given.clone()
        outputs = step(given)
        assert torch.equal(given, before)
        given = outputs
