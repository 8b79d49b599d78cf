"""Precision: the type of numbers in which each direction of a model is computed, and float32 where half overflows."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from functools import cache, partial
from typing import NamedTuple

import torch

from model_store import Card
from model_store.families import Network
from model_store.inference_form import bring_into_inference_form
from model_store.vae.device import dtype_of
from model_store.vae.family import Direction

from .rows import Rows
from .torch_runtime import Compute, ForwardPass

AGREEMENT_DB = 40.0  # between bfloat16 and float32, as the import measures it: one grey value in 8-bit pictures
RECOMPUTED = 2  # the flag of a row that was finite only in float32; other flags are 0 and 1


class Precisions(NamedTuple):
    """The types of numbers of an encoder and a decoder; None is the type of the stored weights."""

    encode: torch.dtype | None = None
    decode: torch.dtype | None = None


class RecomputedRows(tuple[torch.Tensor, ...]):
    """Rows of which some were computed again in float32.

    Attributes:
        recomputed: the number of these rows.
    """

    recomputed: int

    def __new__(cls, rows: Rows, recomputed: int) -> RecomputedRows:
        """The rows, and the number."""
        made = super().__new__(cls, rows)
        made.recomputed = recomputed
        return made


def choose_precisions(card: Card, device: torch.device, wanted: torch.dtype | None) -> Precisions:
    """The precisions of a model on a device; `wanted` is the operator's, or None for the best that is safe.

    A model that others trained is computed in bfloat16 where the device has its instructions and the import has
    measured at least `AGREEMENT_DB` between both, and else in float32: weights are often stored in float16, which is
    slow on a CPU. A model whose activations overflow in float16 is not computed in it.
    """
    config = card.model
    if wanted is not None:
        safe = torch.float32 if wanted == torch.float16 and config.overflows_in_float16 else wanted
        return Precisions(safe, safe)
    if not config.takes_any_size:
        return Precisions()
    has_instructions = has_bfloat16(device)
    agreements = [card.metric(f"{direction}_agreement_db") for direction in Precisions._fields]
    are_safe = (has_instructions and metric is not None and metric.value >= AGREEMENT_DB for metric in agreements)
    return Precisions(*(torch.bfloat16 if is_safe else torch.float32 for is_safe in are_safe))


def has_bfloat16(device: torch.device) -> bool:
    """Whether a device has instructions for bfloat16; without them it is slower than float32."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    found = torch.cpu.get_capabilities()
    return bool(found.get("avx512_bf16") or found.get("amx_bf16") or found.get("bf16"))


def direction_of(name: ForwardPass) -> Direction:
    """The direction whose network computes a forward pass."""
    return "encode" if name.startswith("encode") else "decode"


def passes_in(
    model: Network,
    device: torch.device,
    precisions: Precisions,
    make: Callable[[Network], Mapping[ForwardPass, Compute]],
    recomputed: Callable[[int], None],
) -> dict[ForwardPass, Compute]:
    """The forward passes of a model in its precisions. Rows that are not finite in half are computed in float32.

    The model is changed: each direction gets its precision, on the device. `make` gives the passes of a network on its
    device; `recomputed` is called with the number of rows. The network in float32 has the weights of the half
    precision, widened, and exists from the first row that needs it: kept from the start, it would take more memory than
    the model itself.
    """
    stored = dtype_of(model)
    kinds: dict[Direction, torch.dtype] = {
        "encode": precisions.encode or stored,
        "decode": precisions.decode or stored,
    }
    bring_into_inference_form(model, device, kinds)

    @cache
    def full_passes() -> Mapping[ForwardPass, Compute]:
        return make(copy.deepcopy(model).float())

    if torch.float16 in kinds.values():  # which overflows: here, so that worker processes share the memory
        full_passes()

    def full_pass(name: ForwardPass) -> Compute:
        return full_passes()[name]

    return {
        name: compute
        if kinds[direction_of(name)].itemsize == torch.float32.itemsize
        else with_recomputation(compute, partial(full_pass, name), recomputed)
        for name, compute in make(model).items()
    }


def with_recomputation(half: Compute, full: Callable[[], Compute], recomputed: Callable[[int], None]) -> Compute:
    """A pass in half precision; rows that are not finite are computed again with the pass that `full` gives."""

    def compute(*rows: torch.Tensor) -> Rows:
        *outputs, finite = half(*rows)
        if finite.all():
            return (*outputs, finite)
        wrong = ~finite
        *again, finite_again = full()(*(tensor[wrong] for tensor in rows))
        for output, right in zip(outputs, again, strict=True):
            output[wrong] = right
        flags = finite.to(torch.uint8)
        flags[wrong] = RECOMPUTED * finite_again.to(torch.uint8)
        recomputed(int(wrong.sum()))
        return (*outputs, flags)

    return compute
