"""Where a network is computed: the one rule for what `auto` means."""

import torch


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
