"""How a run uses its device: in which precision it computes, and where the weights and the pixels live."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from model_store.vae.device import use_channels_last

Precision = Literal["float32", "bfloat16"]

_RESIDENT_FRACTION = 0.5


def autocast(device: torch.device, precision: Precision) -> torch.autocast:
    """With "bfloat16" matrix products and convolutions are computed in it; weights and sums stay float32."""
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=precision == "bfloat16")


def place(model: nn.Module, device: torch.device, precision: Precision) -> None:
    """Bring a model onto its device; with the channels last where that is quicker, in bfloat16 twice as quick."""
    model.to(device)
    if precision == "bfloat16" or device.type == "cpu":
        use_channels_last(model)


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
