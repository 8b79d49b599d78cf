"""The bare loop on a device: it computes one batch again and again, and copies and serves nothing."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn

from model_store import VAE
from model_store.vae.device import use_channels_last
from model_store.vae.noise import standard_normal

from ..serving.bare import network
from ..serving.cases import Operation
from ..serving.pictures import photos

TRIALS = 5
Step = Callable[[], object]


def best(model: VAE, operation: Operation, images: int, device: torch.device, seconds: float) -> tuple[str, float]:
    """The quickest variant, and its images/s."""
    rates = {}
    for name, prepare in variants(device).items():
        module, batch = _placed(model, operation, images, device)
        rates[name] = rate(prepare(module, batch), images, seconds)
    name = max(rates, key=lambda name: rates[name])
    return name, rates[name]


def variants(device: torch.device) -> dict[str, Callable[[nn.Module, Tensor], Step]]:
    """The ways to compute a network on a batch, by name."""
    known: dict[str, Callable[[nn.Module, Tensor], Step]] = {
        "eager": partial,
        "compiled": lambda module, batch: partial(torch.compile(module), batch),
    }
    return known | ({"graph": _recorded} if device.type == "cuda" else {})


@torch.inference_mode()
def rate(step: Step, images: int, seconds: float) -> float:
    """Images/s, after a few steps that are not counted."""
    for _ in range(TRIALS):
        step()
    _finish()
    began, done = time.perf_counter(), 0
    while time.perf_counter() - began < seconds:
        step()
        done += images
        if done % (images * 10) == 0:
            _finish()  # without it the clock would measure how fast steps are started
    _finish()
    return done / (time.perf_counter() - began)


def _placed(model: VAE, operation: Operation, images: int, device: torch.device) -> tuple[nn.Module, Tensor]:
    """The part of a network that an operation computes, with the channels last, and a batch for it."""
    module = network(model, operation).eval().to(device)
    use_channels_last(module)
    if operation is Operation.BATCH_DECODE:
        return module, standard_normal(0, images, model.config.latent_shape).to(device)
    return module, photos(model.config.image_shape, images).to(device)


@torch.inference_mode()
def _recorded(module: nn.Module, batch: Tensor) -> Step:
    side = torch.cuda.Stream()
    with torch.cuda.stream(side):
        for _ in range(TRIALS):
            module(batch)
    kernels = torch.cuda.CUDAGraph()
    with torch.cuda.graph(kernels):
        module(batch)
    return kernels.replay


def _finish() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()
