"""The blocks that take the place of the library's have its outputs, also where a map goes through them in strips."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping

import pytest
import torch
from diffusers.models.attention_processor import Attention
from diffusers.models.autoencoders.vae import AutoencoderTinyBlock
from diffusers.models.downsampling import Downsample2D
from diffusers.models.resnet import ResnetBlock2D
from torch import Tensor, nn
from torch.nn import functional as F

from model_store.diffusers.in_place import InPlaceBlock, compute_in_place
from model_store.diffusers.normalised import convolved_in_strips
from model_store.vae.networks import strips
from model_store.vae.networks.residual import Residual
from model_store.vae.networks.strips import strips_of
from model_store.vae.networks.winograd import use_winograd

GROUPS = 4


@pytest.fixture(params=[2**22, 2**8], ids=["whole", "strips"])
def strip_numbers(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    """The numbers in a strip."""
    monkeypatch.setattr(strips, "_STRIP_NUMBERS", request.param)
    return int(request.param)


def resnet(channels: int, channels_out: int, activation: str = "swish") -> nn.Module:
    """A residual block of the library."""
    block: nn.Module = ResnetBlock2D(
        in_channels=channels,
        out_channels=channels_out,
        temb_channels=None,
        groups=GROUPS,
        eps=1e-6,
        non_linearity=activation,
    )
    for norm in (module for module in block.modules() if isinstance(module, nn.GroupNorm)):
        nn.init.normal_(norm.weight)
        nn.init.normal_(norm.bias)
    return block


class Holder(nn.Module):
    """A network of one block, which can be replaced."""

    def __init__(self, block: nn.Module) -> None:
        super().__init__()
        self.block = block

    def forward(self, features: Tensor) -> Tensor:
        """The outputs of the block; the library gives some blocks a time embedding."""
        takes_time = isinstance(self.block, ResnetBlock2D | InPlaceBlock)
        outputs: Tensor = self.block(features, None) if takes_time else self.block(features)
        return outputs


BLOCKS: Mapping[str, Callable[[], nn.Module]] = {
    "resnet": lambda: resnet(8, 8),
    "resnet with a shortcut": lambda: resnet(8, 12),
    "resnet with ReLU": lambda: resnet(8, 8, "relu"),
    "resnet with GELU": lambda: resnet(8, 8, "gelu"),
    "tiny block": lambda: AutoencoderTinyBlock(8, 8, "relu"),
    "tiny block with a shortcut": lambda: AutoencoderTinyBlock(8, 4, "swish"),
    "attention": lambda: Attention(
        8,
        heads=1,
        dim_head=8,
        norm_num_groups=GROUPS,
        residual_connection=True,
        bias=True,
        _from_deprecated_attn_block=True,
    ),
    "halving": lambda: Downsample2D(8, use_conv=True, out_channels=8, padding=0, name="op"),
}


@pytest.mark.parametrize("name", BLOCKS)
@pytest.mark.parametrize(("count", "height", "width"), [(1, 68, 24), (2, 65, 17)])
@torch.inference_mode()
def test_outputs_are_the_librarys(strip_numbers: int, name: str, count: int, height: int, width: int) -> None:
    torch.manual_seed(0)
    library = Holder(BLOCKS[name]()).eval()
    features = torch.randn(count, 8, height, width).to(memory_format=torch.channels_last)
    wanted, ours = library(features.clone()), copy.deepcopy(library)

    compute_in_place(ours, folds_doublings=True)

    assert type(ours.block) is not type(library.block)
    assert (len(strips_of(wanted)) > 1) is (strip_numbers == 2**8)
    if strip_numbers == 2**8 and isinstance(ours.block, InPlaceBlock):
        torch.testing.assert_close(ours.block._in_strips(features.clone()), wanted, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(ours(features), wanted, rtol=1e-4, atol=1e-5)


@torch.inference_mode()
def test_winograds_convolutions_have_the_outputs_of_the_library_in_strips(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    library = Holder(resnet(128, 128)).eval()
    features = torch.randn(1, 128, 96, 128).to(memory_format=torch.channels_last)
    wanted, ours = library(features.clone()), copy.deepcopy(library)
    monkeypatch.setattr(strips, "_STRIP_NUMBERS", 128 * 128 * 48)

    compute_in_place(ours, folds_doublings=True)
    use_winograd(ours)

    assert isinstance(ours.block, InPlaceBlock)
    torch.testing.assert_close(ours.block._in_strips(features), wanted, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", [name for name in BLOCKS if name != "halving"])
@pytest.mark.usefixtures("strip_numbers")
@torch.inference_mode()
def test_sums_stay_in_float32_where_branches_are_not(name: str) -> None:
    """The error is that of the rounded branches."""
    torch.manual_seed(0)
    ours = Holder(BLOCKS[name]()).eval()
    features = torch.randn(1, 8, 32, 24).to(memory_format=torch.channels_last)
    wanted = ours(features.clone())
    compute_in_place(ours, folds_doublings=True)
    assert isinstance(ours.block, Residual)

    for branch in ours.block.branches():
        branch.bfloat16()
    outputs = ours(features)

    assert outputs.dtype == torch.float32
    torch.testing.assert_close(outputs, wanted, rtol=0, atol=0.05)


@pytest.mark.parametrize("kind", [torch.float32, torch.bfloat16])
@torch.inference_mode()
def test_a_small_variance_beside_a_large_mean_is_not_lost(kind: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    monkeypatch.setattr(strips, "_STRIP_NUMBERS", 2**10)
    norm, convolution = nn.GroupNorm(GROUPS, 8, eps=1e-6), nn.Conv2d(8, 8, kernel_size=3, padding=1)
    features = (100 + torch.randn(1, 8, 40, 30).sign()).to(kind)
    wanted = convolution(F.silu(norm(features.float())))

    parts = [outputs.clone() for _, outputs in convolved_in_strips(norm, nn.SiLU(), convolution, features)]

    assert len(parts) > 1
    torch.testing.assert_close(torch.cat(parts, 2), wanted, rtol=1e-2, atol=1e-2)


@torch.inference_mode()
def test_maps_in_another_order_are_normalised(monkeypatch: pytest.MonkeyPatch) -> None:
    """An attention gives a map whose strides torch's normalisation refused."""
    torch.manual_seed(0)
    monkeypatch.setattr(strips, "_STRIP_NUMBERS", 2**10)
    norm, convolution = nn.GroupNorm(GROUPS, 8, eps=1e-6), nn.Conv2d(8, 8, kernel_size=3, padding=1)
    features = torch.randn(1, 40 * 30, 8).transpose(1, 2).reshape(1, 8, 40, 30)

    parts = [outputs.clone() for _, outputs in convolved_in_strips(norm, nn.SiLU(), convolution, features)]

    torch.testing.assert_close(torch.cat(parts, 2), convolution(F.silu(norm(features))), rtol=1e-4, atol=1e-5)
