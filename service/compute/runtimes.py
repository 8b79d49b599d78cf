"""The library that computes a network: torch, everywhere and in every precision, or ONNX Runtime, faster on a CPU."""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec
from typing import Literal

import structlog
import torch

from model_store.families import Network

from .cuda_runtime import cuda_forward_passes, launched_forward_passes
from .precision import Precisions, passes_in
from .torch_runtime import ForwardPasses, torch_forward_passes

Runtime = Literal["torch", "onnxruntime"]

_PACKAGES = ("onnx", "onnxruntime")

log = structlog.get_logger()


class NoSuchRuntime(ValueError):
    """The setting names ONNX Runtime, which cannot be used on this machine or device."""

    def __init__(self, obstacle: str) -> None:
        super().__init__(f"The runtime onnxruntime cannot be used: {obstacle}; or set runtime to torch.")


def choose_runtime(wanted: Runtime | Literal["auto"], device: torch.device, dtype: torch.dtype | None) -> Runtime:
    """The runtime of a setting. `auto` is ONNX Runtime if it is installed, on a CPU, in the precision of the weights.

    Raises:
        NoSuchRuntime: the setting names ONNX Runtime, which cannot be used.
    """
    if wanted == "torch":
        return wanted
    obstacle = onnx_obstacle(device, dtype)
    if not obstacle:
        return "onnxruntime"
    if wanted == "onnxruntime":
        raise NoSuchRuntime(obstacle)
    return "torch"


def forward_passes(
    model: Network,
    device: torch.device,
    precisions: Precisions,
    runtime: Runtime,
    recomputed: Callable[[int], None] = lambda _: None,
) -> tuple[ForwardPasses, Runtime]:
    """The forward passes of a model on a device, and the runtime that computes them.

    A model that ONNX Runtime cannot compute falls back to torch, and a line in the log says so. `recomputed` is called
    with the number of rows that were finite only in float32.
    """
    # ONNX Runtime gets float32 networks only, and a model may be stored in another precision.
    if runtime == "onnxruntime" and all(weights.dtype == torch.float32 for weights in model.parameters()):
        # Imported here since both packages are an extra, which need not be installed.
        from .onnx_graph import Untranslatable  # noqa: PLC0415
        from .onnx_runtime import onnx_forward_passes  # noqa: PLC0415

        try:
            return onnx_forward_passes(model), "onnxruntime"
        except Untranslatable as error:
            log.warning("computed by torch instead of ONNX Runtime", reason=str(error))
    make = torch_forward_passes
    if device.type == "cuda":
        # of a model of any size, each size would need graphs of its own
        make = launched_forward_passes if model.config.takes_any_size else cuda_forward_passes
    return passes_in(model, device, precisions, make, recomputed), "torch"


def onnx_obstacle(device: torch.device, dtype: torch.dtype | None) -> str | None:
    """Why ONNX Runtime cannot be used on a device and in a precision, and the remedy; None if it can."""
    if device.type != "cpu":
        return f"it computes on CPUs, and the device is {device}; set device to cpu"
    if dtype not in (None, torch.float32):
        return f"it computes in float32, and dtype is {dtype}; set dtype to auto"
    if missing := [name for name in _PACKAGES if find_spec(name) is None]:
        return f"{' and '.join(missing)} cannot be found; pip install 'latentd[onnxruntime]'"
    return None
