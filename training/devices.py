"""How a run uses its device: in which precision it computes, and where the pixels live."""

from __future__ import annotations

import torch
from torch import Tensor

_RESIDENT_FRACTION = 0.5


def mixed_precision(device: torch.device) -> torch.autocast:
    """On CUDA bfloat16 where it is safe and float32 elsewhere; on the CPU float32 everywhere."""
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=device.type == "cuda")


def resident(pixels: Tensor, device: torch.device) -> Tensor:
    """The pixels on the device, if they take less than half of what is free there; else where they are."""
    if device.type != "cuda":
        return pixels
    free, _ = torch.cuda.mem_get_info(device)
    return pixels.to(device) if pixels.nbytes < _RESIDENT_FRACTION * free else pixels


def to_device(batch: Tensor, device: torch.device) -> Tensor:
    """A batch on the device; through pinned memory if it is not there yet, so that the copy holds up nobody."""
    if device.type != "cuda" or batch.device == device:
        return batch
    return batch.pin_memory().to(device, non_blocking=True)
