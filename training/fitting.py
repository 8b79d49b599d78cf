"""Fits a distribution to the latents of images, by maximum likelihood. The encoder and the decoder stay as they are.

For a prior p(z), the mean over the images of log p(z) at posterior draws is the part of the evidence lower bound that
depends on it: the best fit is the prior with the best bound.
"""

from __future__ import annotations

import copy
import math
import time
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from model_store import VAE
from model_store.vae import Flow, Mixture, Point
from model_store.vae.noise import derived_seed, standard_normal
from model_store.vae.pixels import binarise, to_images

from . import console
from .errors import CannotFit
from .evaluate.bounds import batches_of

BATCH = 500  # latents in a step
LEARNING_RATES = {Flow: 1e-3, Mixture: 1e-2}  # at the first step; they fall to zero along a cosine
GRADIENT_NORM = 100.0
CHECK_STEPS = 100
PATIENCE = 20  # checks without a better number, after which the fit ends
BINARISATIONS = 4  # of each training image, so that a model of binary pixels gives four posteriors for it


class Fitted(NamedTuple):
    """The mean log-density of the held-out latents in nats, the number of steps, and their seconds."""

    log_density_nats: float
    steps: int
    seconds: float


@dataclass(frozen=True)
class Posteriors:
    """The posteriors of N images, or their points, whose deviations are 0; both (N, *latent_shape)."""

    mean: Tensor
    deviation: Tensor

    def draw(self, noise: Tensor) -> Tensor:
        """A draw from each, by standard normal noise of their shape."""
        return self.mean + self.deviation * noise

    def at(self, rows: Tensor) -> Posteriors:
        """The posteriors with these numbers."""
        return Posteriors(self.mean[rows], self.deviation[rows])


@torch.no_grad()
def posteriors_of(model: VAE, pixels: Tensor, generator: torch.Generator, binarisations: int = 1) -> Posteriors:
    """The posteriors of uint8 pixels (N, C, H, W); for a model of binary pixels, of several binarisations of each."""
    found: list[tuple[Tensor, Tensor]] = []
    times = binarisations if model.config.likelihood.is_binary else 1
    parts = [part for _ in range(times) for part in batches_of(model.config, pixels)]
    for part in console.track(parts, len(parts), "encoding"):
        images = _images(model, part, generator).to(model.device)
        posterior = model.encode(images)
        if isinstance(posterior, Point):
            deviation = torch.zeros_like(posterior.mean)
        else:
            deviation = (0.5 * posterior.log_variance).exp()
        found.append((posterior.mean.cpu(), deviation.cpu()))
    means, deviations = zip(*found, strict=True)
    return Posteriors(torch.cat(means), torch.cat(deviations))


def fit(distribution: Flow | Mixture, train: Posteriors, held_out: Posteriors, *, steps: int, seed: int) -> Fitted:
    """Fit a distribution to draws of posteriors, in at most `steps` steps; it keeps the best weights for others.

    The same posteriors, seed and device give the same weights. The fit ends early when the log-density of draws of the
    held-out posteriors has not risen for a while. Their draws are the same in each check.

    Raises:
        CannotFit: the log-density is not finite.
    """
    began, device = time.perf_counter(), next(distribution.parameters()).device
    generator, learning_rate = torch.Generator().manual_seed(seed), LEARNING_RATES[type(distribution)]
    fixed = held_out.draw(standard_normal(derived_seed(seed, "held out"), *_rows(held_out))).to(device)
    distribution.begin_at(train.draw(torch.randn(train.mean.shape, generator=generator)).to(device), seed)
    optimiser = torch.optim.Adam(distribution.parameters(), lr=learning_rate)
    best, best_nats, best_step = copy.deepcopy(distribution.state_dict()), -math.inf, 0
    with console.steps_bar("fitting", steps) as bar:
        for step in range(1, steps + 1):
            rows = torch.randint(len(train.mean), (BATCH,), generator=generator)
            chosen = train.at(rows)
            latents = chosen.draw(torch.randn(chosen.mean.shape, generator=generator)).to(device)
            loss = -distribution.log_prob(latents).mean()
            optimiser.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(distribution.parameters(), GRADIENT_NORM)
            for group in optimiser.param_groups:
                group["lr"] = learning_rate * 0.5 * (1 + math.cos(math.pi * (step - 1) / steps))
            optimiser.step()
            if step % CHECK_STEPS and step < steps:
                continue
            nats = mean_log_density(distribution, fixed)
            bar(step, f"log p(z) {nats:.2f} nats")
            if nats > best_nats:
                best, best_nats, best_step = copy.deepcopy(distribution.state_dict()), nats, step
            elif step - best_step >= PATIENCE * CHECK_STEPS:
                break
    if not math.isfinite(best_nats):
        raise CannotFit("whose log-density of the latents is not finite", "fit the other kind")
    distribution.load_state_dict(best)
    return Fitted(best_nats, step, time.perf_counter() - began)


@torch.no_grad()
def mean_log_density(distribution: Flow | Mixture, latents: Tensor) -> float:
    """The mean of log p(z) over latents (N, *latent_shape), in nats."""
    return torch.cat([distribution.log_prob(part) for part in latents.split(BATCH)]).double().mean().item()


def _images(model: VAE, pixels: Tensor, generator: torch.Generator) -> Tensor:
    if not model.config.likelihood.is_binary:
        return to_images(pixels)
    return binarise(pixels, torch.rand(pixels.shape, generator=generator))


def _rows(posteriors: Posteriors) -> tuple[int, tuple[int, ...]]:
    count, *shape = posteriors.mean.shape
    return count, tuple(shape)
