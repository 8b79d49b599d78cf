"""Where a network is computed: the meaning of `auto`, and the memory order that convolutions like."""

import torch
from torch import nn


class NoSuchDevice(ValueError):
    """This machine has no such device."""

    def __init__(self, name: str) -> None:
        super().__init__(f"There is no device {name!r} here; take auto, cpu, or cuda:N where there is one.")


def choose_device(name: str) -> torch.device:
    """The device of that name; `auto` is CUDA where there is one, else the CPU.

    Raises:
        NoSuchDevice: there is none of that name.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        return torch.empty(0, device=name).device
    except (RuntimeError, AssertionError) as error:
        raise NoSuchDevice(name) from error


def use_channels_last(model: nn.Module) -> None:
    """Store the weights with the channels last, the order in which convolutions are computed fastest."""
    model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch's annotations lack it
