"""A torch device, and the one thread that talks to it."""

from __future__ import annotations

import asyncio
import os
import platform
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import version
from pathlib import Path
from typing import ParamSpec, TypeVar

import torch

from model_store.vae import VAE

from ..errors import DeviceLost
from .runtimes import Runtime

HERE_S = 0.005  # work that takes no longer is done where it is asked for: handing it to a thread would cost it more

P = ParamSpec("P")
T = TypeVar("T")


class Device:
    """A device with a thread of its own, in which inference mode and the CUDA stream hold.

    `dtype` is the precision that networks are given on it, or None for that of their stored weights; `runtime` is who
    computes those of float32. Batches that take no more than `here_s` seconds are computed without the thread.
    """

    def __init__(
        self,
        device: torch.device,
        dtype: torch.dtype | None = None,
        runtime: Runtime = "torch",
        here_s: float = HERE_S,
    ) -> None:
        self.torch_device = device
        self.dtype = dtype
        self.runtime = runtime
        self.here_s = here_s
        self.lost = False
        self._thread = self._new_thread()
        self._stream: torch.cuda.Stream | None = None
        if device.type == "cuda":
            self._stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]  # torch leaves it untyped

    def __str__(self) -> str:
        return str(self.torch_device)

    @property
    def is_exact(self) -> bool:
        """Whether some batch sizes can be expected to agree bit for bit."""
        return self.torch_device.type == "cpu"

    async def call(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """What the function gives in the device's thread.

        Raises:
            DeviceLost: the device has failed, now or before.
        """
        if self.lost:
            raise DeviceLost
        return await asyncio.get_running_loop().run_in_executor(
            self._thread, lambda: self._enter(function, *args, **kwargs)
        )

    def here(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """What the function gives, in the caller's own thread: for work that takes no longer than handing it over.

        Raises:
            DeviceLost: the device has failed, now or before.
        """
        if self.lost:
            raise DeviceLost
        return self._enter(function, *args, **kwargs)

    def facts(self) -> dict[str, str]:
        """Whatever decides how quickly it computes, and in which order it sums."""
        is_gpu = self.torch_device.type == "cuda"
        return {
            "device": torch.cuda.get_device_name(self.torch_device) if is_gpu else _processor(),
            "threads": f"{torch.get_num_threads()} of {os.cpu_count()}",
            "precision": str(self.dtype),
            "computed here": f"{self.here_s} s",
            "runtime": self.runtime,
            **{name: version(name) for name in ("latentd", "torch", self.runtime)},
        }

    def place(self, model: VAE) -> VAE:
        """The model on the device, in its precision and in the memory order that convolutions like best."""
        model.to(self.torch_device, self.dtype)
        model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch's stubs omit it
        return model

    def free_memory(self) -> None:
        """Give unused memory back, before something is tried again in less."""
        if self._stream is not None:
            torch.cuda.empty_cache()

    def rest(self) -> None:
        """End the thread, when it has done what it was given; the next call begins another."""
        self._thread.shutdown()
        self._thread = self._new_thread()

    def close(self) -> None:
        """End the thread, when it has done what it was given."""
        self._thread.shutdown(wait=False)

    def _new_thread(self) -> ThreadPoolExecutor:
        return ThreadPoolExecutor(max_workers=1, thread_name_prefix=f"device-{self.torch_device}")

    def _enter(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        try:
            with torch.inference_mode(), torch.cuda.stream(self._stream):
                return function(*args, **kwargs)
        except torch.AcceleratorError as error:
            self.lost = True
            raise DeviceLost from error


def _processor() -> str:
    """Its name, where the system tells it."""
    told = Path("/proc/cpuinfo")
    lines = told.read_text(encoding="utf-8").splitlines() if told.is_file() else []
    return next((line for line in lines if line.startswith("model name")), platform.processor() or platform.machine())
