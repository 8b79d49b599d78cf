"""Where a run computes, and how: the device, its precision, and where the pixels live."""

from __future__ import annotations

import torch
from torch import Tensor

from .errors import DeviceNotFound

_RESIDENT_FRACTION = 0.5


def choose_device(name: str) -> torch.device:
    """The device of that name; `auto` is CUDA where there is one, else the CPU.

    Raises:
        DeviceNotFound: there is none of that name.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        return torch.empty(0, device=name).device
    except (RuntimeError, AssertionError) as error:
        raise DeviceNotFound(name) from error


def mixed_precision(device: torch.device) -> torch.autocast:
    """On CUDA bfloat16 where it is safe and float32 elsewhere; on the CPU float32 everywhere."""
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=device.type == "cuda")


def resident(pixels: Tensor, device: torch.device) -> Tensor:
    """The pixels on the device, if they take less than half of what is free there, else pinned beside it."""
    if device.type != "cuda":
        return pixels
    free, _ = torch.cuda.mem_get_info(device)
    return pixels.to(device) if pixels.nbytes < _RESIDENT_FRACTION * free else pixels.pin_memory()
