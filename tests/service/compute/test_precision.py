"""The precision of each direction, and the rows that half precision cannot hold."""

import copy
from datetime import UTC, datetime

import pytest
import torch

from model_store import Card, Metric
from model_store.card import WeightsSummary
from model_store.families import ModelConfig
from model_store.taesd import TAESD, TAESDConfig
from service.compute import precision
from service.compute.device import Device
from service.compute.precision import (
    Precisions,
    RecomputedRows,
    choose_precisions,
    passes_in,
    with_recomputation,
)
from service.compute.rows import Rows
from service.compute.runner import Runner
from service.compute.torch_runtime import torch_forward_passes

from ...conftest import GREY

CPU = torch.device("cpu")
TINY = TAESDConfig(image_shape=(3, None, None), latent_shape=(4, None, None), latent_space="sd1")
pytestmark = pytest.mark.anyio


def card(config: ModelConfig, **agreements_db: float) -> Card:
    """A card with the agreements that an import has measured."""
    metrics = tuple(
        Metric(name=f"{direction}_agreement_db", value=value, unit="dB", protocol="made up")
        for direction, value in agreements_db.items()
    )
    weights = WeightsSummary(sha256="0" * 64, bytes=1, parameters=1)
    return Card(created=datetime.now(UTC), model=config, weights=weights, metrics=metrics)


@pytest.fixture
def has_instructions(monkeypatch: pytest.MonkeyPatch) -> None:
    """The processor has instructions for bfloat16."""
    monkeypatch.setattr(precision, "has_bfloat16", lambda _: True)


@pytest.mark.usefixtures("has_instructions")
def test_each_direction_has_the_precision_that_its_agreement_allows() -> None:
    """An encoder of 39 dB stays in float32 beside a decoder of 41."""
    chosen = choose_precisions(card(TINY, encode=39, decode=41), CPU, None)

    assert chosen == Precisions(torch.float32, torch.bfloat16)


@pytest.mark.usefixtures("has_instructions")
def test_model_that_was_not_measured_is_computed_in_float32() -> None:
    """Its weights may be stored in float16, which is slow on a CPU."""
    assert choose_precisions(card(TINY), CPU, None) == Precisions(torch.float32, torch.float32)


def test_device_without_instructions_computes_in_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    """Emulated bfloat16 is slower."""
    monkeypatch.setattr(precision, "has_bfloat16", lambda _: False)

    assert choose_precisions(card(TINY, encode=60, decode=60), CPU, None) == Precisions(torch.float32, torch.float32)


def test_our_models_are_computed_as_they_are_stored() -> None:
    """The import of others measures them, and training does not."""
    assert choose_precisions(card(GREY), CPU, None) == Precisions()


def test_operator_may_choose() -> None:
    """The setting wins over what was measured."""
    chosen = choose_precisions(card(TINY, encode=10, decode=10), CPU, torch.bfloat16)

    assert chosen == Precisions(torch.bfloat16, torch.bfloat16)


def test_model_that_overflows_in_float16_is_not_computed_in_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """`force_upcast` of the source is obeyed."""
    monkeypatch.setattr(TAESDConfig, "overflows_in_float16", True)

    assert choose_precisions(card(TINY), CPU, torch.float16) == Precisions(torch.float32, torch.float32)


def half(rows: torch.Tensor) -> Rows:
    """Twice the rows in float16, whose largest number is 65,504."""
    doubled = (2 * rows.half()).float()
    return doubled, doubled.isfinite().all(1)


def full(rows: torch.Tensor) -> Rows:
    """Twice the rows in float32."""
    return 2 * rows, (2 * rows).isfinite().all(1)


def test_rows_that_are_not_finite_in_half_are_computed_again() -> None:
    """Only they are, and they are counted."""
    counts: list[int] = []
    rows = torch.tensor([[1.0], [60_000.0], [torch.inf]])

    doubled, flags = with_recomputation(half, lambda: full, counts.append)(rows)

    assert doubled.flatten().tolist() == [2, 120_000, torch.inf]
    assert flags.tolist() == [1, precision.RECOMPUTED, 0]
    assert counts == [2]


def test_network_that_overflows_is_computed_in_float32() -> None:
    """The largest number of float16 is 65,504. The weights stay rounded to float16."""
    torch.manual_seed(0)
    network = TAESD(TINY).eval().requires_grad_(False)
    network.decoder.get_parameter("1.weight").mul_(1e5)
    network.decoder[-1].get_parameter("weight").mul_(1e-5)
    latents = torch.randn(1, 4, 4, 4)
    expected = copy.deepcopy(network).half().float().decode(latents).mean
    counts: list[int] = []

    passes = passes_in(network, CPU, Precisions(torch.float16, torch.float16), torch_forward_passes, counts.append)
    images, flags = passes["decode"](latents)

    assert flags.tolist() == [precision.RECOMPUTED]
    assert counts == [1]
    torch.testing.assert_close(images, expected, atol=1e-4, rtol=0)
    assert next(network.parameters()).dtype == torch.float16


async def test_runner_tells_each_payload_what_was_computed_again() -> None:
    """The payload with the large number has one such row, and the other payload has none."""
    device = Device(CPU)
    runner = Runner(TAESD(TINY), device, 4, precisions=Precisions(torch.float32, torch.bfloat16))
    runner.forward_passes = {**runner.forward_passes, "decode": with_recomputation(half, lambda: full, lambda _: None)}

    answers = await runner.run("decode", [(torch.tensor([[1.0]]),), (torch.tensor([[60_000.0]]),)])
    device.close()

    assert [answer.recomputed for answer in answers if isinstance(answer, RecomputedRows)] == [0, 1]
    assert [answer[0].item() for answer in answers if not isinstance(answer, Exception)] == [2, 120_000]


def test_directions_have_precisions_of_their_own() -> None:
    """The decoder in bfloat16 gives nearly the same images as in float32, and the encoder the same latents."""
    torch.manual_seed(0)
    network = TAESD(TINY).eval().requires_grad_(False)
    pixels = torch.randint(0, 256, (1, 3, 32, 32), dtype=torch.uint8)
    latents, _ = Runner(network, Device(CPU), 1).forward_passes["encode"](pixels)
    images, _ = Runner(network, Device(CPU), 1).forward_passes["decode"](latents)

    mixed = Runner(network, Device(CPU), 1, precisions=Precisions(torch.float32, torch.bfloat16))
    found, _ = mixed.forward_passes["decode"](latents)

    torch.testing.assert_close(mixed.forward_passes["encode"](pixels)[0], latents)
    torch.testing.assert_close(found, images, atol=0.02, rtol=0)
    assert not torch.equal(found, images)
