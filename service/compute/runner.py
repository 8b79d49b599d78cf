"""Runner: one model on one device. It knows no requests, only operations on lists of tensors.

Payloads are stacked, computed, and split again, as many answers as payloads. What one payload does wrong is that
payload's error alone.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence

import structlog
import torch

from model_store.vae import VAE
from model_store.vae.noise import standard_normal
from model_store.vae.pixels import to_pixels

from ..errors import NotFinite, OutOfMemory
from . import batch_plan
from .batch_plan import BatchPlan, BatchPlans
from .cuda_runtime import cuda_forward_passes
from .device import Device
from .rows import Rows, aligned, concatenate, first, length, pad, same_bytes, split
from .runtimes import Runtime
from .torch_runtime import OPERATION_OF, ForwardPasses, torch_forward_passes

EXAMPLES_S = 1.0  # a slow model, whose examples would take longer, is tried with fewer
PART_S = 0.0005  # of a large request, so much is computed before others have their turn
OUT_OF_MEMORY = ("can't allocate memory", "Failed to allocate memory", "bad_alloc")  # by torch and ONNX Runtime

log = structlog.get_logger()


class Runner:
    """Runs the operations of one model, at most `max_batch_images` at once; `warm_up` comes first.

    `out_of_memory` is told of each batch that did not fit, from the device's thread.

    Attributes:
        operations: what computes, by name; a test may break one.
        runtime: who computes them.
        plans: how each operation is computed, as the warm-up found it.
    """

    def __init__(
        self, model: VAE, device: Device, max_batch_images: int, out_of_memory: Callable[[], None] = lambda: None
    ) -> None:
        self._config = model.config
        self.forward_passes, self.runtime = _operations(model, device)
        self._device = device
        self._out_of_memory = out_of_memory
        can = [name for name, operation in OPERATION_OF.items() if operation in model.config.can]
        self.plans: BatchPlans = {name: BatchPlan([max_batch_images], 0, max_batch_images) for name in can}

    async def run(self, operation: str, payloads: Sequence[Rows]) -> Sequence[Rows | Exception]:
        """For each payload the operation's outputs, on the CPU, or an error."""
        if sum(map(length, payloads)) <= self.plans[operation].inline_images:
            return self._device.run_inline(self._answers, operation, payloads)
        return await self._device.call(self._answers, operation, payloads)

    def largest(self, operation: str) -> int:
        """How many images of an operation are computed at once at most."""
        return self.plans[operation].sizes[-1]

    def part(self, operation: str) -> int:
        """How many images of a large request are computed at once at least."""
        return self.plans[operation].part_images

    @property
    def is_exact(self) -> bool:
        """Whether an image's answers have the same bytes alone and in any batch; else they agree but for rounding."""
        return all(plan.is_exact for plan in self.plans.values())

    async def warm_up(self, known: BatchPlans | None = None) -> BatchPlans:
        """Find how to compute each operation, or take what is known; then no caller pays for a first time.

        Other models' batches go in between.
        """
        examples = await self._device.prepare(self._examples, max(self.largest("decode"), batch_plan.EXAMPLES))
        if known is None or known.keys() != self.plans.keys():
            known = {operation: await self._find(operation, rows) for operation, rows in examples.items()}
            known["render"] = known["decode"]
        self.plans = known
        for operation, rows in {**examples, "render": examples["decode"]}.items():
            tried = known[operation].sizes[-1:] if self._device.is_exact else known[operation].sizes
            for size in tried:
                await self._device.prepare(self._forward, operation, first(rows, size))
        return known

    def _examples(self, number: int) -> dict[str, Rows]:
        """Something to compute for each operation that takes its own time; to render takes that of decode."""
        latents = standard_normal(0, number, self._config.latent_shape)
        pixels = to_pixels(standard_normal(0, number, self._config.image_shape).sigmoid())
        examples: dict[str, Rows] = {"encode": (pixels,), "decode": (latents,), "score": (pixels, latents)}
        return {operation: rows for operation, rows in examples.items() if operation in self.plans}

    async def _find(self, operation: str, rows: Rows) -> BatchPlan:
        timed = await self._time(operation, first(rows, self.largest(operation)))
        enough = batch_plan.EXAMPLES if batch_plan.EXAMPLES * timed[1] < EXAMPLES_S else batch_plan.REFERENCE_BATCH
        agreeing = await self._reproducible_sizes(operation, first(rows, max(enough, *timed)), list(timed))
        found = agreeing or list(timed)
        inline_s = self._device.inline_s if self._device.is_exact else 0.0

        def within(seconds: float) -> list[int]:
            return [size for size in found if timed.get(size, math.inf) <= seconds]

        quick = within(inline_s)
        if agreeing and not all([await self._is_alike_inline(operation, first(rows, size)) for size in quick]):
            quick = []
        return BatchPlan(found, max(quick, default=0), max(within(PART_S), default=found[0]), is_exact=bool(agreeing))

    async def _is_alike_inline(self, operation: str, rows: Rows) -> bool:
        """Whether the caller's thread gives the same bytes as the device's."""
        there = await self._device.prepare(self._judged, operation, rows)
        return same_bytes(there, self._device.run_inline(self._judged, operation, rows))

    async def _time(self, operation: str, rows: Rows) -> dict[int, float]:
        """The seconds of each batch size that fits into memory and pays."""

        async def seconds(size: int) -> float:
            # the first of these prepares things, and any may be disturbed
            part = first(rows, size)
            return min([await self._device.prepare(self._seconds, operation, part) for _ in range(3)])

        try:
            return await batch_plan.profitable_sizes(seconds, length(rows))
        except torch.OutOfMemoryError:
            if length(rows) == 1:
                raise
        self._device.free_memory()
        return await self._time(operation, first(rows, length(rows) // 2))

    async def _reproducible_sizes(self, operation: str, rows: Rows, profitable: list[int]) -> list[int]:
        """The batch sizes that answer alike, byte for byte; none on a GPU."""
        if not self._device.is_exact:
            return []

        async def forward(part: Rows) -> Rows:
            return await self._device.prepare(self._judged, operation, part)

        try:
            return await batch_plan.reproducible_sizes(forward, rows, profitable, fitting=self.largest(operation))
        except torch.OutOfMemoryError:
            pass  # a unit is more than pays, and more than fits
        self._device.free_memory()
        return await batch_plan.reproducible_sizes(forward, rows, profitable, fitting=profitable[-1])

    def _answers(self, operation: str, payloads: Sequence[Rows]) -> list[Rows | Exception]:
        """An error halves the batch until it meets one payload; out of memory halves that too, down to one image."""
        try:
            return self._together(operation, payloads)
        except torch.AcceleratorError:
            raise  # the device is lost, whatever it is asked
        except torch.OutOfMemoryError:
            self._out_of_memory()  # the failed batch is only freed when this block is left
        except Exception as error:
            if len(payloads) == 1:
                return [error]
        self._device.free_memory()
        if len(payloads) > 1:
            middle = len(payloads) // 2
            return self._answers(operation, payloads[:middle]) + self._answers(operation, payloads[middle:])
        if length(payloads[0]) > 1:
            return [self._in_halves(operation, payloads[0])]
        return [OutOfMemory()]

    def _in_halves(self, operation: str, payload: Rows) -> Rows | Exception:
        answers = []
        for half in split(payload, -(-length(payload) // 2)):
            (answer,) = self._answers(operation, [half])
            if isinstance(answer, Exception):
                return answer
            answers.append(answer)
        return concatenate(answers)

    def _together(self, operation: str, payloads: Sequence[Rows]) -> list[Rows | Exception]:
        parts = split(concatenate(payloads), self.largest(operation))
        *outputs, finite = concatenate([self._padded(operation, part) for part in parts])
        counts = [*map(length, payloads)]
        answers = split(tuple(outputs), counts)
        if finite.all():
            return [*answers]
        are_good = [rows.all() for rows in torch.split(finite, counts)]
        return [answer if is_good else NotFinite() for answer, is_good in zip(answers, are_good, strict=True)]

    def _padded(self, operation: str, inputs: Rows) -> Rows:
        """What some rows give, computed in the next larger size that is known."""
        number = length(inputs)
        size = next(size for size in self.plans[operation].sizes if size >= number)
        return first(self._forward(operation, pad(inputs, size)), number)

    def _judged(self, operation: str, inputs: Rows) -> Rows:
        """What sizes must agree in: the outputs, and the image behind a score, in whose sum a bit may not show."""
        outputs = self._forward(operation, inputs)
        return outputs if operation != "score" else (*outputs, *self._forward("decode", inputs[1:]))

    def _forward(self, operation: str, inputs: Rows) -> Rows:
        try:
            return self.forward_passes[operation](*aligned(inputs))
        except Exception as error:
            if is_out_of_memory(error):
                raise torch.OutOfMemoryError(str(error)) from error
            raise

    def _seconds(self, operation: str, rows: Rows) -> float:
        began = time.perf_counter()
        self._forward(operation, rows)
        return time.perf_counter() - began


def is_out_of_memory(error: Exception) -> bool:
    """Whether it is what torch, ONNX Runtime or Python raise when memory ends."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    return any(said in str(error) for said in OUT_OF_MEMORY)


def _operations(model: VAE, device: Device) -> tuple[ForwardPasses, Runtime]:
    """What computes a model there, and its runtime; ONNX Runtime takes no other precision than float32 from us."""
    if device.torch_device.type == "cuda":
        return cuda_forward_passes(device.place(model)), "torch"
    if device.runtime == "onnxruntime" and all(weights.dtype == torch.float32 for weights in model.parameters()):
        # an extra, which need not be installed
        from .onnx_graph import Untranslatable  # noqa: PLC0415
        from .onnx_runtime import onnx_forward_passes  # noqa: PLC0415

        try:
            return onnx_forward_passes(model), "onnxruntime"
        except Untranslatable as error:
            log.warning("computed by torch instead of ONNX Runtime", reason=str(error))
    return torch_forward_passes(device.place(model)), "torch"
