"""A served model tells the batcher the shapes of tensors, and divides many rows into parts."""

import asyncio
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch

from model_store import Card, ModelVersion
from model_store.taesd import TAESDConfig
from model_store.vae.priors import Prior
from service.compute.batch_plan import BatchPlan
from service.compute.precision import Precisions
from service.compute.rows import Rows
from service.compute.runner import Runner
from service.inference.batcher import Batcher
from service.inference.served_model import BatchKey, ServedModel

pytestmark = pytest.mark.anyio

Batches = list[tuple[BatchKey, int]]
TINY = TAESDConfig(image_shape=(3, None, None), latent_shape=(4, None, None), latent_space="sd1")


def imported(kind: torch.dtype, encode: int, decode: int, *, is_on_cpu: bool = True, **others: int) -> ServedModel:
    """A model of which the import has measured the memory of a megapixel, in MiB; both directions have a type."""
    mib = {"encode": encode, "decode": decode} | others
    measured = {f"{name}_bytes_per_megapixel": number * 2**20 for name, number in mib.items()}

    def metric(name: str) -> SimpleNamespace | None:
        return SimpleNamespace(value=measured[name]) if name in measured else None

    card = SimpleNamespace(model=TINY, metric=metric)
    runner = SimpleNamespace(precisions=Precisions(kind, kind), is_on_cpu=is_on_cpu)
    nothing: Any = None
    return ServedModel(ModelVersion("tiny", 1), cast(Card, card), nothing, nothing, cast(Runner, runner))


def make_model(batches: Batches, seconds: dict[int, float]) -> ServedModel:
    """A model that answers with its inputs, and notes the key and the payloads of each batch."""

    async def echo(key: BatchKey, payloads: Sequence[Rows]) -> Sequence[Rows]:
        batches.append((key, len(payloads)))
        return payloads

    def ignore(*_: object) -> None:
        """Count nothing."""

    batcher: Batcher[BatchKey, Rows, Rows] = Batcher(
        echo, images_within=lambda _key, _seconds: 8, queue_images=99, batch_computed=ignore, queue_changed=ignore
    )
    runner = SimpleNamespace(plans={"encode": BatchPlan(seconds)})
    nothing: Any = None
    return ServedModel(
        ModelVersion("any-size", 1), cast(Card, nothing), cast(Prior, nothing), batcher, cast(Runner, runner)
    )


@pytest.mark.parametrize(
    ("kind", "encode", "decode", "mib"),
    [
        pytest.param(torch.float32, 100, 200, 216, id="float32"),
        pytest.param(torch.bfloat16, 100, 300, 166, id="half of a decoder"),
        pytest.param(torch.bfloat16, 200, 300, 216, id="all of an encoder, whose sums are float32"),
    ],
)
def test_memory_of_an_image_follows_from_the_import(kind: torch.dtype, encode: int, decode: int, mib: int) -> None:
    """An image of 1,000×1,000 has one megapixel; 16 MiB are added."""
    assert imported(kind, encode, decode).cost_of((3, 1000, 1000)).size == mib * 2**20


def test_memory_that_was_measured_in_bfloat16_counts() -> None:
    """The sums of an encoder are float32, and large maps go in strips: no share of float32's memory says how much."""
    model = imported(torch.bfloat16, 100, 300, encode_bfloat16=70, decode_bfloat16=50)

    assert model.cost_of((3, 1000, 1000)).size == (70 + 16) * 2**20


def test_memory_on_a_gpu_is_not_less_than_the_familys_bound() -> None:
    """The import has measured a CPU, which computes large maps in strips."""
    model = imported(torch.float32, 1, 1, is_on_cpu=False)

    assert model.cost_of((3, 1000, 1000)).size == TINY.activation_bytes_of((3, 1000, 1000))


async def test_rows_of_two_shapes_never_meet_in_one_batch() -> None:
    """Rows of one shape share a batch, and rows of another shape have their own."""
    batches: Batches = []
    model = make_model(batches, {8: 0.0})
    shapes = [(3, 8, 8), (3, 16, 8), (3, 8, 8)]

    answers = await asyncio.gather(*(model.forward("encode", (torch.zeros(1, *shape),)) for shape in shapes))

    assert batches == [(("encode", ((3, 8, 8),)), 2), (("encode", ((3, 16, 8),)), 1)]
    assert [answer.results[0][0].shape[1:] for answer in answers] == shapes


@pytest.mark.parametrize(
    ("seconds", "parts"),
    [({1: 0.0, 2: 0.0, 4: 1.0}, [2, 2, 1]), ({2: 1.0, 4: 2.0}, [2, 2, 1]), ({8: 0.0}, [5])],
    ids=["the largest quick size", "the smallest of slow sizes", "all in one part"],
)
async def test_many_rows_are_computed_in_parts(seconds: dict[int, float], parts: list[int]) -> None:
    """A part is about as long as other requests may have to wait for it."""
    rows = (torch.arange(5.0),)

    answer = await make_model([], seconds).forward("encode", rows)

    assert [len(result[0]) for result in answer.results] == parts
    assert torch.equal(torch.cat([result[0] for result in answer.results]), rows[0])
