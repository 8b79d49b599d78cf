"""The form of a network in which it computes fastest: on its device, simplified, each direction in its precision."""

from __future__ import annotations

from collections.abc import Mapping

import torch

from .families import Network
from .vae.device import use_channels_last
from .vae.family import Direction
from .vae.networks.residual import branches_of
from .vae.networks.winograd import use_winograd


def bring_into_inference_form(network: Network, device: torch.device, kinds: Mapping[Direction, torch.dtype]) -> None:
    """Change a network for good: it computes forward passes on a device, each direction in its type of numbers.

    In an encoder in bfloat16, the sums of the residual blocks and the layers outside of blocks stay in float32. The 8
    bits of a picture hide the rounding of these sums, and latents do not (docs/decisions/0014-sums-in-float32.md).
    """
    # Doublings are folded where that was measured, and before the weights get their type: their sums are rounded once.
    network.simplify(folds_doublings=device.type == "cpu")
    if device.type == "cpu":
        use_winograd(network)
    network.to(device)
    for direction, kind in kinds.items():
        modules = network.modules_of(direction)
        branches = branches_of(modules) if (direction, kind) == ("encode", torch.bfloat16) else []
        for module in modules:
            module.to(torch.float32 if branches else kind)
        for branch in branches:
            branch.to(kind)
    use_channels_last(network)
