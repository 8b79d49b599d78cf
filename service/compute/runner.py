"""Runner: one model on one device. The runner knows no requests, only forward passes of lists of tensors.

Payloads are concatenated, computed and split again, so that each payload gets its answer. An error that one payload
causes is the answer to that payload alone.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import torch

from model_store.families import Network
from model_store.vae.family import FamilyConfig
from model_store.vae.noise import standard_normal
from model_store.vae.pixels import to_pixels

from ..errors import NotFinite, OutOfMemory
from . import batch_plan, runtimes
from .batch_plan import BatchPlan, BatchPlans
from .device import Device
from .precision import RECOMPUTED, Precisions, RecomputedRows
from .rows import Rows, aligned, concatenate, first, last, length, pad, same_bytes, split
from .torch_runtime import OPERATION_OF, SAME_PLAN_AS, STAGES, ForwardPass

EXAMPLES_S = 1.0  # a model that needs longer for all examples is tried with fewer
TIMED_RUNS = 3  # of which the quickest counts: the first one prepares things, and any may be disturbed
# A batch has no more images than need so much for their activations, as far as the network's record tells: on a machine
# without memory the kernel ends the process, and no library raises an error.
BATCH_BYTES = 256 * 2**20
GREYS = (0, 128, 255)  # black, grey and white images, which every model must answer
TRIED = 1 + len(GREYS)  # examples at the end, one of them noise, whose answers must be finite
OUT_OF_MEMORY = ("can't allocate memory", "Failed to allocate memory", "bad_alloc")  # by torch and ONNX Runtime


class NotFiniteModel(ValueError):
    """A version whose answers to ordinary images or latents are not finite."""

    def __init__(self, name: ForwardPass) -> None:
        super().__init__(
            f"Its forward pass {name} gives numbers that are not finite, for one of a black, a grey, a white and a "
            "noisy image or for an ordinary latent; all must be finite. Publish a version that was trained again, or "
            "set dtype to float32 if it is a half precision."
        )


class TooSlow(ValueError):
    """A version of which even one image would be taken for a computation that hangs."""

    def __init__(self, name: ForwardPass, seconds: float, limit_s: float) -> None:
        super().__init__(
            f"Its forward pass {name} takes {seconds:.3g} s for one image, and after {limit_s:.3g} s a computation "
            "counts as hung; publish a smaller model, or raise hang_s."
        )


class Runner:
    """Runs the forward passes of one model, at most `max_batch_images` at once, or as many as `BATCH_BYTES` allow.

    Call `warm_up` first.

    `out_of_memory` is called for each batch that did not fit, and `recomputed` with the number of rows that were finite
    only in float32, in the device's thread.

    Attributes:
        forward_passes: the functions that compute, by name; a test may replace one.
        runtime: the library that computes them.
        precisions: in which they are computed.
        plans: how each forward pass is computed, as the warm-up found it.
    """

    def __init__(
        self,
        model: Network,
        device: Device,
        max_batch_images: int,
        out_of_memory: Callable[[], None] = lambda: None,
        precisions: Precisions | None = None,
        recomputed: Callable[[int], None] = lambda _: None,
    ) -> None:
        self._config = model.config
        self.precisions = precisions or Precisions(device.dtype, device.dtype)
        self._recomputed = recomputed
        self._is_warm = False
        self.forward_passes, self.runtime = runtimes.forward_passes(
            model, device.torch_device, self.precisions, device.runtime, self._count_recomputed
        )
        self._device = device
        self._out_of_memory = out_of_memory
        can = [name for name, operation in OPERATION_OF.items() if operation in model.config.can]
        # Large images gain nothing from company, and one of another size would need another plan.
        at_most = 1 if self._config.takes_any_size else max_batch_images
        largest = max(1, min(at_most, BATCH_BYTES // self._example_bytes))
        self.plans: BatchPlans = {name: BatchPlan({largest: 0.0}) for name in can}
        self.plans |= self._plans_of_stages(self.plans)

    async def run(self, name: ForwardPass, payloads: Sequence[Rows]) -> Sequence[Rows | Exception]:
        """For each payload the outputs of a forward pass, on the CPU, or an error."""
        if sum(map(length, payloads)) <= self.plans[name].inline_images:
            return self._device.run_inline(self._answers, name, payloads)
        return await self._device.call(self._answers, name, payloads)

    def max_images(self, name: ForwardPass) -> int:
        """The most images that a forward pass computes at once."""
        return self.plans[name].sizes[-1]

    def _count_recomputed(self, rows: int) -> None:
        """Count rows of requests; the warm-up tries noise too, which no client has sent."""
        if self._is_warm:
            self._recomputed(rows)

    def _plans_of_stages(self, plans: BatchPlans) -> BatchPlans:
        """The stages of a forward pass have the plan of the whole pass."""
        if self._config.halo is None:
            return {}
        return {name: plans[name.partition("_")[0]] for name in STAGES}

    @property
    def _example_bytes(self) -> int:
        return self._config.activation_bytes_of(self._config.example_shape)

    @property
    def is_on_cpu(self) -> bool:
        """Whether the processor computes, and not a GPU."""
        return self._device.torch_device.type == "cpu"

    @property
    def fingerprint(self) -> str:
        """A digest of the device and its libraries: where it is the same, the same seed gives the same bytes."""
        return self._device.fingerprint

    @property
    def is_exact(self) -> bool:
        """Whether an image's answers have the same bytes alone and in any batch; else they agree but for rounding."""
        return all(plan.is_exact for plan in self.plans.values())

    async def warm_up(self, known: BatchPlans | None = None) -> BatchPlans:
        """Measure the plan of each forward pass, or take the known plans; then run each with ordinary inputs.

        Afterwards no request pays for a first run. Batches of other models are computed in between.

        Raises:
            NotFiniteModel: an answer to an ordinary input is not finite.
            TooSlow: one image takes longer than a computation may.
        """
        largest = self.max_images("decode")
        number = min(max(largest, batch_plan.EXAMPLES), max(1, BATCH_BYTES // self._example_bytes))
        inputs = await self._device.prepare(examples, self._config, number)
        inputs = {name: rows for name, rows in inputs.items() if name in self.plans}
        alike = {name: other for name, other in SAME_PLAN_AS.items() if name in self.plans}
        if (
            known is None
            or known.keys() != {*inputs, *alike}
            or not all(plan.is_possible(largest) for plan in known.values())
        ):
            known = {name: await self._measure(name, first(rows, number)) for name, rows in inputs.items()}
            known |= {name: known[other] for name, other in alike.items()}
        self.plans = known | self._plans_of_stages(known)
        for name, rows in {**inputs, **{name: inputs[other] for name, other in alike.items()}}.items():
            # On a GPU each size has a CUDA graph of its own; on a CPU the largest size prepares everything.
            for size in known[name].sizes[-1:] if self._device.is_exact else known[name].sizes:
                await self._try(name, last(rows, max(size, TRIED)), size)
        self._is_warm = True
        return known

    async def _try(self, name: ForwardPass, rows: Rows, size: int) -> None:
        """Run a forward pass in batches of one size.

        Raises:
            NotFiniteModel: an answer is not finite.
        """
        for batch in split(rows, size):
            *_, finite = await self._device.prepare(self._forward, name, pad(batch, size))
            if not finite[: length(batch)].all():
                raise NotFiniteModel(name)

    async def _measure(self, name: ForwardPass, rows: Rows) -> BatchPlan:
        """Find the sizes that pay and agree, and the sizes that the caller's thread may compute."""
        timed = await self._time(name, first(rows, self.max_images(name)))
        enough = batch_plan.EXAMPLES if batch_plan.EXAMPLES * timed[1] < EXAMPLES_S else batch_plan.REFERENCE_BATCH
        agreeing = await self._reproducible_sizes(name, first(rows, max(enough, *timed)), list(timed))
        if agreeing:
            # A size that agrees without paying was not timed yet.
            timed = {size: timed.get(size) or await self._time_batch(name, first(rows, size)) for size in agreeing}
        inline_images = await self._inline_images(name, rows, timed, is_exact=bool(agreeing))
        return BatchPlan(timed, inline_images, is_exact=bool(agreeing))

    async def _inline_images(self, name: ForwardPass, rows: Rows, seconds: dict[int, float], *, is_exact: bool) -> int:
        """The largest batch that the caller's thread computes; 0 if that thread gives other bytes, and on a GPU.

        It is 0 too for a model of any size: a later image may be a thousand times as large.
        """
        if not self._device.is_exact or self._config.takes_any_size:
            return 0
        quick = [size for size, batch_s in seconds.items() if batch_s <= self._device.inline_s]
        if is_exact:
            for size in quick:
                in_thread = await self._device.prepare(self._compared, name, first(rows, size))
                if not same_bytes(in_thread, self._device.run_inline(self._compared, name, first(rows, size))):
                    return 0
        return max(quick, default=0)

    async def _time(self, name: ForwardPass, rows: Rows) -> dict[int, float]:
        """The seconds of each batch size that is profitable and fits into memory."""

        async def seconds(size: int) -> float:
            return await self._time_batch(name, first(rows, size))

        try:
            return await batch_plan.profitable_sizes(seconds, length(rows))
        except torch.OutOfMemoryError:
            if length(rows) == 1:
                raise
        self._device.free_memory()  # outside the block, which keeps the tensors of the failed batch
        return await self._time(name, first(rows, length(rows) // 2))

    async def _time_batch(self, name: ForwardPass, rows: Rows) -> float:
        def run() -> float:
            began = time.perf_counter()
            self._forward(name, rows)
            return time.perf_counter() - began

        first_s = await self._device.prepare(run)
        if length(rows) == 1 and first_s > self._device.hang_s:
            raise TooSlow(name, first_s, self._device.hang_s)
        if first_s > EXAMPLES_S:
            return first_s  # other models wait meanwhile
        return min([first_s, *[await self._device.prepare(run) for _ in range(TIMED_RUNS - 1)]])

    async def _reproducible_sizes(self, name: ForwardPass, rows: Rows, profitable: list[int]) -> list[int]:
        """The batch sizes that agree byte for byte; none on a GPU."""
        if not self._device.is_exact:
            return []

        async def compute(part: Rows) -> Rows:
            return await self._device.prepare(self._compared, name, part)

        try:
            return await batch_plan.reproducible_sizes(compute, rows, profitable, fitting=self.max_images(name))
        except torch.OutOfMemoryError:
            pass  # the reference batch is larger than the largest profitable size, and did not fit
        self._device.free_memory()
        return await batch_plan.reproducible_sizes(compute, rows, profitable, fitting=profitable[-1])

    def _answers(self, name: ForwardPass, payloads: Sequence[Rows]) -> list[Rows | Exception]:
        """Compute payloads; in case of an error compute their halves, until the error has one payload.

        If memory runs out, one payload is computed in halves too, down to a single image.
        """
        try:
            return self._together(name, payloads)
        except torch.AcceleratorError:
            raise  # the device is lost: no part can be computed
        except torch.OutOfMemoryError:
            self._out_of_memory()  # and go on below, with less at once
        except Exception as error:
            if len(payloads) == 1:
                return [error]
            # and go on below: the other payloads may be right
        # Below the `except` blocks, since an error keeps the tensors of the failed batch while it is handled.
        self._device.free_memory()
        if len(payloads) > 1:
            middle = len(payloads) // 2
            return self._answers(name, payloads[:middle]) + self._answers(name, payloads[middle:])
        images = length(payloads[0])
        if images == 1:
            return [OutOfMemory()]
        halves: list[Rows] = []
        for half in split(payloads[0], -(-images // 2)):
            (answer,) = self._answers(name, [half])
            if isinstance(answer, Exception):
                return [answer]
            halves.append(answer)
        return [concatenate(halves)]

    def _together(self, name: ForwardPass, payloads: Sequence[Rows]) -> list[Rows | Exception]:
        """Compute payloads at once. Each batch is padded to the next larger size of the plan."""
        computed: list[Rows] = []
        for part in split(concatenate(payloads), self.max_images(name)):
            size = next(size for size in self.plans[name].sizes if size >= length(part))
            computed.append(first(self._forward(name, pad(part, size)), length(part)))
        *outputs, finite = concatenate(computed)
        counts = [*map(length, payloads)]
        answers: list[Rows] = split(tuple(outputs), counts)
        if finite.dtype == torch.uint8:
            again = [int((flags == RECOMPUTED).sum()) for flags in torch.split(finite, counts)]
            answers = [RecomputedRows(*each) for each in zip(answers, again, strict=True)]
        if finite.all():
            return [*answers]
        are_good = [rows.all() for rows in torch.split(finite, counts)]
        return [answer if is_good else NotFinite() for answer, is_good in zip(answers, are_good, strict=True)]

    def _compared(self, name: ForwardPass, inputs: Rows) -> Rows:
        """The tensors in which sizes must agree: the outputs, and for `score` the image behind the sum.

        A sum over pixels may hide a bit in which the images differ.
        """
        outputs = self._forward(name, inputs)
        return outputs if name != "score" else (*outputs, *self._forward("decode", inputs[1:]))

    def _forward(self, name: ForwardPass, inputs: Rows) -> Rows:
        try:
            return self.forward_passes[name](*aligned(inputs))
        except Exception as error:
            if is_out_of_memory(error):
                raise torch.OutOfMemoryError(str(error)) from error
            raise


def examples(config: FamilyConfig, number: int) -> dict[ForwardPass, Rows]:
    """Rows for each forward pass that is measured; the others take the plan of one of them.

    The first `number` rows are noise. Behind them are images of one grey value, and at the end is a latent of zeros.
    """
    latents = standard_normal(0, number + len(GREYS), config.example_latent_shape)
    latents[-1] = 0
    noise = to_pixels(standard_normal(0, number, config.example_shape).sigmoid())
    pixels = torch.cat([noise, *(torch.full_like(noise[:1], grey) for grey in GREYS)])
    return {"encode": (pixels,), "decode": (latents,), "score": (pixels, latents)}


def is_out_of_memory(error: Exception) -> bool:
    """Whether torch, ONNX Runtime or Python raised the error because memory ran out."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    return any(text in str(error) for text in OUT_OF_MEMORY)
