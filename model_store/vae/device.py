"""The device of a network and its numbers: which one `auto` means, their type, and the fastest order in memory."""

import torch
from torch import nn


class NoSuchDevice(ValueError):
    """This machine does not have the named device."""

    def __init__(self, name: str) -> None:
        super().__init__(f"This machine has no device {name!r}; name auto, cpu, or cuda:N for the number N of a GPU.")


def choose_device(name: str) -> torch.device:
    """The device with that name; `auto` is the GPU if the machine has one, else the CPU.

    Raises:
        NoSuchDevice: the machine does not have it.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        return torch.empty(0, device=name).device
    except (RuntimeError, AssertionError) as error:
        raise NoSuchDevice(name) from error


def dtype_of(module: nn.Module) -> torch.dtype:
    """The type of a module's weights."""
    return next(module.parameters()).dtype


def use_channels_last(model: nn.Module) -> None:
    """Store the weights with the channels last, the order in which a convolution is fastest."""
    model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # missing in torch's annotations
