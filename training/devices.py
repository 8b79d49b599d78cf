"""How a run uses its device: the precision of a step, and where weights and pixels are kept."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from model_store.vae.device import use_channels_last
from model_store.vae.sentences import counted

Precision = Literal["float32", "bfloat16"]

_RESIDENT_FRACTION = 0.5


def use_threads(threads: int | None) -> None:
    """Let that many threads compute on a CPU; None leaves torch's choice, one for each core."""
    if threads is not None:
        torch.set_num_threads(threads)


def autocast(device: torch.device, precision: Precision) -> torch.autocast:
    """Compute matrix products and convolutions of this block in `precision`; weights and sums stay float32."""
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=precision == "bfloat16")


def place(model: nn.Module, device: torch.device, precision: Precision) -> None:
    """Move a model to its device, and store its channels last where convolutions are then faster."""
    model.to(device)
    if precision == "bfloat16" or device.type == "cpu":  # in bfloat16 twice as fast
        use_channels_last(model)


def resident(pixels: Tensor, device: torch.device) -> Tensor:
    """Move the pixels to a GPU if they take less than half of its free memory; else leave them where they are."""
    if device.type != "cuda":
        return pixels
    free, _ = torch.cuda.mem_get_info(device)
    return pixels.to(device) if pixels.nbytes < _RESIDENT_FRACTION * free else pixels


def to_device(batch: Tensor, device: torch.device) -> Tensor:
    """Move a batch to the device. Pinned memory lets a GPU compute while the copy runs."""
    if device.type != "cuda" or batch.device == device:
        return batch
    return batch.pin_memory().to(device, non_blocking=True)


def device_name(device: torch.device) -> str:
    """The name of a device for a card: a GPU's model, or the number of threads of a CPU."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{device.type}, {counted(torch.get_num_threads(), 'threads')}"
