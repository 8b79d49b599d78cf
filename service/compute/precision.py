"""Precision: the type of numbers in which each direction of a model is computed, and float32 where half overflows."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from typing import Literal, NamedTuple

import torch

from model_store import Card
from model_store.families import Network
from model_store.vae.device import use_channels_last

from .rows import Rows
from .torch_runtime import Compute, ForwardPass

AGREEMENT_DB = 40.0  # between bfloat16 and float32, as the import measures it: one grey value in 8-bit pictures
RECOMPUTED = 2  # the flag of a row that was finite only in float32; other flags are 0 and 1

Direction = Literal["encode", "decode"]


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
    make: Callable[[Network], Mapping[str, Compute]],
    recomputed: Callable[[int], None],
) -> dict[str, Compute]:
    """The forward passes of a model in its precisions. Rows that are not finite in half are computed in float32.

    `make` gives the passes of a network on its device; `recomputed` is called with the number of rows.
    """
    stored = next(model.parameters()).dtype
    kinds = {"encode": precisions.encode or stored, "decode": precisions.decode or stored}
    needed = {*kinds.values(), *([torch.float32] if any(kind.itemsize < 4 for kind in kinds.values()) else [])}
    made = {}
    for kind in needed:
        network = copy.deepcopy(model) if len(needed) > 1 else model
        network.to(device, kind)
        use_channels_last(network)
        made[kind] = make(network)
    passes: dict[str, Compute] = {}
    for name in made[torch.float32] if torch.float32 in made else made[stored]:
        kind = kinds[direction_of(name)]  # type: ignore[arg-type]  # each name is a forward pass
        is_half = kind.itemsize < 4
        passes[name] = (
            with_recomputation(made[kind][name], made[torch.float32][name], recomputed) if is_half else made[kind][name]
        )
    return passes


def with_recomputation(half: Compute, full: Compute, recomputed: Callable[[int], None]) -> Compute:
    """A pass that computes rows in half precision, and those that are not finite again."""

    def compute(*rows: torch.Tensor) -> Rows:
        *outputs, finite = half(*rows)
        if finite.all():
            return (*outputs, finite)
        wrong = ~finite
        *again, finite_again = full(*(tensor[wrong] for tensor in rows))
        for output, right in zip(outputs, again, strict=True):
            output[wrong] = right
        flags = finite.to(torch.uint8)
        flags[wrong] = RECOMPUTED * finite_again.to(torch.uint8)
        recomputed(int(wrong.sum()))
        return (*outputs, flags)

    return compute
