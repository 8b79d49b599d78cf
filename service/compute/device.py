"""A torch device, the one thread that talks to it, and the recovery when one of them fails."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import platform
import time
from collections.abc import Callable
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import ParamSpec, TypeVar

import structlog
import torch

from ..errors import DeviceHung, DeviceLost
from .device_thread import DeviceThread
from .runtimes import Runtime

# Batches that take no longer are computed in the caller's thread, which is the event loop's: a hand-over would cost
# more than it saves.
INLINE_S = 0.002
# The same with several worker processes: no core is left for another thread, so only long work goes to one.
INLINE_S_WITH_WORKERS = 0.02

HANG_S = 20.0  # a batch that takes longer is taken to hang
HANG_CHECKS = 10  # of the thread in that time
# Preparing a model may take PATIENCE times as long as a batch, or PREPARE_S if that is more: libraries search or
# compile kernels then.
PATIENCE = 10
PREPARE_S = 120.0

# Prefixes of the environment variables by which libraries choose their kernels.
LIBRARIES = ("ATEN_", "DNNL_", "GOMP_", "KMP_", "MKL_", "OMP_", "ONEDNN_", "OPENBLAS_")
PROCESSOR = (
    *("vendor_id", "model name", "cpu family", "model", "stepping", "flags"),  # x86-64
    *("CPU implementer", "CPU architecture", "CPU variant", "CPU part", "Features"),  # Arm
)

P = ParamSpec("P")
T = TypeVar("T")

log = structlog.get_logger()


class Device:
    """A device with a thread of its own. Functions run there in inference mode and on the device's CUDA stream.

    `dtype` is the precision of networks on the device, or None for the precision of their stored weights. `runtime` is
    the library that computes float32 networks. Batches that take at most `inline_s` seconds are computed in the
    caller's thread. A thread that makes no progress for `hang_s` seconds (longer during `prepare`) is abandoned and
    replaced on a CPU; a GPU that hangs counts as lost.
    """

    def __init__(
        self,
        device: torch.device,
        dtype: torch.dtype | None = None,
        runtime: Runtime = "torch",
        inline_s: float = INLINE_S,
        hang_s: float = HANG_S,
    ) -> None:
        self.torch_device = device
        self.dtype = dtype
        self.runtime = runtime
        self.inline_s = inline_s
        self.lost_at: float | None = None  # by time.monotonic
        self.hang_s = hang_s
        self._thread = DeviceThread(f"device-{device}")
        self._stream: torch.cuda.Stream | None = None
        if device.type == "cuda":
            self._stream = torch.cuda.Stream(device)

    def __str__(self) -> str:
        return str(self.torch_device)

    @property
    def is_exact(self) -> bool:
        """Whether batch sizes may agree byte for byte. The warm-up of each model finds out which sizes do."""
        return self.torch_device.type == "cpu"

    @property
    def lost(self) -> bool:
        """Whether the device has failed for good."""
        return self.lost_at is not None

    @property
    def seems_to_hang(self) -> bool:
        """Whether the thread has made no progress for half the time after which it is abandoned."""
        return self._thread.has_hung_for(self.hang_s / 2)

    async def call(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Call the function in the device's thread; return its result.

        Raises:
            DeviceLost: the device has failed, now or before.
            DeviceHung: the thread was abandoned.
        """
        if self.lost:
            raise DeviceLost
        return await self._thread.do(lambda: self._enter(function, *args, **kwargs))

    async def prepare(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Call a function that may take longer than a batch, such as preparing a model.

        Raises:
            DeviceLost, DeviceHung: as `call` does.
        """
        if self.lost:
            raise DeviceLost
        patience = max(PATIENCE, PREPARE_S / self.hang_s)
        return await self._thread.do(lambda: self._enter(function, *args, **kwargs), patience=patience)

    def run_inline(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Call the function in the caller's thread: for work that takes no longer than a hand-over.

        Raises:
            DeviceLost: the device has failed, now or before.
        """
        if self.lost:
            raise DeviceLost
        return self._enter(function, *args, **kwargs)

    @cached_property
    def fingerprint(self) -> str:
        """A digest of the facts. Devices that compute the same bytes for the same seed have the same digest."""
        return hashlib.sha256(json.dumps(self.facts(), sort_keys=True).encode()).hexdigest()

    def facts(self) -> dict[str, str]:
        """Everything that decides how fast the device computes, and in which order it sums."""
        is_gpu = self.torch_device.type == "cuda"
        return {
            "device": torch.cuda.get_device_name(self.torch_device) if is_gpu else processor(),
            "threads": f"{torch.get_num_threads()} of {os.cpu_count()}",
            "instructions": torch.backends.cpu.get_cpu_capability(),
            "environment": str(sorted(pair for pair in os.environ.items() if pair[0].startswith(LIBRARIES))),
            "precision": str(self.dtype),
            "computed inline": f"{self.inline_s} s",
            "runtime": self.runtime,
            **{name: version(name) for name in ("latentd", "torch", self.runtime)},
        }

    def free_memory(self) -> None:
        """Release unused memory of the GPU, before a smaller batch is tried."""
        if self._stream is not None:
            torch.cuda.empty_cache()

    def rest(self) -> None:
        """End the thread after its queued work; the next call starts another thread."""
        self._thread.end()

    def close(self) -> None:
        """End the thread after its queued work; abandon a thread that hangs."""
        self._thread.end(within_s=self.hang_s)

    async def watch(self) -> None:
        """Check the thread from time to time, and replace it when it hangs. Ends when it is cancelled."""
        while True:
            began = time.monotonic()
            await asyncio.sleep(self.hang_s / HANG_CHECKS)
            if time.monotonic() - began > self.hang_s / 2:  # the whole process was stopped, as in a paused container
                self._thread.excuse()
            if self._thread.has_hung_for(self.hang_s):
                hung, self._thread = self._thread, DeviceThread(f"device-{self}")
                log.error("device thread hangs", device=str(self))
                if self.torch_device.type == "cuda":
                    self.lose()
                hung.give_up(DeviceHung())

    def lose(self) -> None:
        """Note that the device has failed for good: from now on every call raises `DeviceLost`."""
        self.lost_at = self.lost_at or time.monotonic()

    def _enter(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        # This call tells MKL torch's number of threads, also for the current thread. Without it, the first batches of a
        # thread are computed with another number, and with other bits (with one thread on two cores, November 2026).
        torch.get_num_threads()
        try:
            with torch.inference_mode(), torch.cuda.stream(self._stream):
                return function(*args, **kwargs)
        except torch.AcceleratorError as error:
            self.lose()
            raise DeviceLost from error


def processor() -> str:
    """The name and the instruction sets of the processor, if the system tells.

    The name alone is not enough: virtual machines with the same name may run on different processors.
    """
    told = Path("/proc/cpuinfo")
    first_core = told.read_text(encoding="utf-8").partition("\n\n")[0] if told.is_file() else ""
    known = [line for line in first_core.splitlines() if line.partition(":")[0].strip() in PROCESSOR]
    return "\n".join(known) or platform.processor() or platform.machine()
