"""Winograd's convolution has the outputs of the direct one."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from model_store.vae.networks import winograd
from model_store.vae.networks.winograd import WinogradConv2d, use_winograd

WIDE = 64


Convolve = Callable[[Tensor, Tensor, Tensor | None], Tensor]


@pytest.fixture(params=[1, 2, 5], ids=["one thread", "two threads", "five threads"])
def threads(request: pytest.FixtureRequest) -> int:
    """The number of threads that compute."""
    return int(request.param)


@pytest.fixture
def convolve(threads: int) -> Iterator[Convolve]:
    """The convolution, called in a thread of its own: what torch starts for it ends with the thread."""
    before = torch.get_num_threads()

    @torch.inference_mode()
    def work(inputs: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        torch.set_num_threads(threads)
        return winograd.convolve(inputs, weight, bias)

    with ThreadPoolExecutor(1) as caller:
        yield lambda *arguments: caller.submit(work, *arguments).result()
    if threads > 1:
        winograd._pool(threads, os.getpid()).shutdown()
        winograd._pool.cache_clear()
    torch.set_num_threads(before)


def direct(inputs: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """The convolution as torch computes it, in double precision."""
    return F.conv2d(inputs.double(), weight.double(), None if bias is None else bias.double(), padding=1).float()


@pytest.mark.parametrize("has_bias", [True, False], ids=["bias", "no bias"])
@pytest.mark.parametrize(
    ("count", "channels_in", "channels_out", "height", "width"),
    [
        pytest.param(1, 3, 5, 8, 8, id="whole tiles"),
        pytest.param(1, 5, 3, 13, 9, id="cut tiles"),
        pytest.param(2, 4, 4, 1, 1, id="one cell"),
        pytest.param(1, 4, 8, 1, 30, id="one row"),
        pytest.param(3, 2, 2, 33, 1, id="one column"),
        pytest.param(1, 2, 3, 70, 530, id="several blocks"),
        pytest.param(1, 2, 2, 6, 1100, id="wider than a block"),
        pytest.param(1, 2, 2, 6, 513, id="one column more than whole tiles"),
        pytest.param(1, 2, 2, 9, 511, id="one column less than whole tiles"),
    ],
)
@torch.inference_mode()
def test_outputs_are_those_of_the_direct_sum(
    convolve: Convolve, count: int, channels_in: int, channels_out: int, height: int, width: int, has_bias: bool
) -> None:
    torch.manual_seed(0)
    inputs = torch.randn(count, channels_in, height, width)
    weight = torch.randn(channels_out, channels_in, 3, 3)
    bias = torch.randn(channels_out) if has_bias else None

    outputs = convolve(inputs.to(memory_format=torch.channels_last), weight, bias)

    torch.testing.assert_close(outputs, direct(inputs, weight, bias), rtol=1e-4, atol=1e-4)
    assert outputs.is_contiguous(memory_format=torch.channels_last)


@torch.inference_mode()
def test_an_image_has_the_same_outputs_alone_and_in_a_batch_but_for_rounding(convolve: Convolve) -> None:
    inputs, weight = torch.randn(3, 8, 40, 50), torch.randn(8, 8, 3, 3)

    together = convolve(inputs, weight, None)

    for image, outputs in zip(inputs, together, strict=True):
        torch.testing.assert_close(convolve(image[None], weight, None)[0], outputs, rtol=1e-4, atol=1e-4)


@torch.inference_mode()
def test_a_value_that_is_not_finite_stays_in_its_image(convolve: Convolve) -> None:
    inputs = torch.zeros(2, 2, 40, 40)
    inputs[0, 0, 20, 20] = torch.inf

    outputs = convolve(inputs, torch.ones(2, 2, 3, 3), None)

    assert not outputs[0].isfinite().all()
    assert outputs[1].isfinite().all()


@torch.inference_mode()
def test_an_error_in_a_thread_reaches_the_caller(convolve: Convolve) -> None:
    with pytest.raises(RuntimeError, match="size"):
        convolve(torch.zeros(1, 3, 8, 8), torch.zeros(2, 2, 3, 3), None)


def test_an_index_error_in_a_block_is_not_taken_for_its_end(
    convolve: Convolve, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The threads take blocks from a deque, which raises this error when it is empty."""

    def fail(*_: object) -> None:
        raise IndexError("in a block")

    monkeypatch.setattr(winograd._Blocks, "_read", fail)

    with pytest.raises(IndexError, match="in a block"):
        convolve(torch.zeros(1, 2, 8, 8), torch.zeros(2, 2, 3, 3), None)


@pytest.mark.parametrize("threads", [2, 5], indirect=True)
def test_a_thread_of_the_pool_computes_alone(convolve: Convolve, threads: int) -> None:
    """Else each thread would have threads of its own, which wait for each other in each step."""
    convolve(torch.zeros(1, 2, 32, 32), torch.zeros(2, 2, 3, 3), None)

    pool = winograd._pool(threads, os.getpid())

    assert {each.result() for each in [pool.submit(torch.get_num_threads) for _ in range(threads)]} == {1}


def layer(channels: int = WIDE, **settings: Any) -> nn.Conv2d:
    """A 3×3 convolution with enough channels."""
    return nn.Conv2d(channels, channels, **{"kernel_size": 3, "padding": 1} | settings)


@pytest.mark.parametrize(
    "other",
    [
        pytest.param({"stride": 2}, id="stride"),
        pytest.param({"padding": 0}, id="no padding"),
        pytest.param({"kernel_size": 1, "padding": 0}, id="kernel"),
        pytest.param({"dilation": 2}, id="dilation"),
        pytest.param({"groups": 2}, id="groups"),
        pytest.param({"padding_mode": "reflect"}, id="reflection"),
        pytest.param({"channels": WIDE // 2}, id="few channels"),
    ],
)
def test_other_convolutions_are_left_as_they_are(other: dict[str, Any]) -> None:
    network = nn.Sequential(layer(**other), layer())
    untouched = network[0]

    use_winograd(network)

    assert network[0] is untouched
    assert isinstance(network[1], WinogradConv2d)


@torch.inference_mode()
def test_a_replaced_layer_has_the_same_weights_and_outputs() -> None:
    plain = nn.Sequential(layer(), nn.Sequential(layer(bias=False)))
    features = torch.randn(1, WIDE, 94, 98)
    wanted, state = plain(features), plain.state_dict()

    use_winograd(plain)

    torch.testing.assert_close(plain(features), wanted, rtol=1e-4, atol=1e-4)
    assert plain.state_dict().keys() == state.keys()


@pytest.mark.parametrize(
    ("height", "width"), [pytest.param(3, 5, id="small map"), pytest.param(101, 93, id="large map")]
)
@torch.inference_mode()
def test_the_rows_inside_a_map_need_no_rows_outside_of_it(height: int, width: int) -> None:
    network, features = nn.Sequential(layer()), torch.randn(2, WIDE, height, width)
    wanted = network(features)[:, :, 1:-1]

    use_winograd(network)

    convolution = network[0]
    assert isinstance(convolution, WinogradConv2d)
    torch.testing.assert_close(convolution.forward_inside(features), wanted, rtol=1e-4, atol=1e-4)


def test_gradients_flow_through_a_replaced_layer() -> None:
    network = nn.Sequential(layer())
    use_winograd(network)

    network(torch.randn(1, WIDE, 96, 96)).sum().backward()

    assert network[0].weight.grad is not None


@torch.inference_mode()
def test_maps_in_half_precision_are_convolved_directly() -> None:
    plain = layer().bfloat16()
    network = nn.Sequential(plain)
    features = torch.randn(1, WIDE, 96, 96).bfloat16()

    use_winograd(network)

    assert torch.equal(network(features), plain(features))
