"""Who computes the networks: torch, everywhere and in every precision, or ONNX Runtime, faster on a CPU."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Literal

import torch

Runtime = Literal["torch", "onnxruntime"]

_PACKAGES = ("onnx", "onnxruntime")


class NoSuchRuntime(ValueError):
    """A runtime was asked for that cannot compute here."""


def choose_runtime(wanted: Runtime | Literal["auto"], device: torch.device, dtype: torch.dtype | None) -> Runtime:
    """The runtime of a setting; `auto` is ONNX Runtime where it is installed, on a CPU, without another precision.

    Raises:
        NoSuchRuntime: ONNX Runtime is named and cannot be used.
    """
    if wanted == "torch":
        return wanted
    obstacle = _obstacle(device, dtype)
    if not obstacle:
        return "onnxruntime"
    if wanted == "onnxruntime":
        raise NoSuchRuntime(f"runtime onnxruntime: {obstacle}; or set runtime to torch")
    return "torch"


def _obstacle(device: torch.device, dtype: torch.dtype | None) -> str | None:
    """Why ONNX Runtime cannot be used, with what can be done."""
    if device.type != "cpu":
        return f"it is used on CPUs, and the device is {device}; set device to cpu"
    if dtype not in (None, torch.float32):
        return f"it computes in float32 here, and dtype is {dtype}; set dtype to auto"
    if missing := [name for name in _PACKAGES if find_spec(name) is None]:
        return f"{' and '.join(missing)} cannot be found; pip install 'latentd[onnxruntime]'"
    return None
