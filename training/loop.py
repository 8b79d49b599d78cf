"""The training loop: epochs of steps, the best weights kept, a checkpoint after each epoch.

Each epoch has its own random generator, seeded by the recipe's seed and the epoch's number. So a run that was stopped
and resumed gives bit for bit the weights of a run that was not, and a checkpoint needs no random state.
"""

from __future__ import annotations

import math
import operator
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from functools import partial
from typing import Any, cast

import torch
from pydantic import TypeAdapter
from torch import Tensor
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from model_store import VAE
from model_store.free_memory import memory_shortage
from model_store.vae.pixels import binarise, to_images
from model_store.weights import count_parameters, empty

from . import console, objective
from .data import Dataset, flipped, shuffled_batches
from .deviation import with_fitted_deviation
from .devices import autocast, place, resident, to_device
from .epoch import Epoch
from .errors import BadRecipe, Diverged
from .recipe import Recipe
from .validation import validate

_SECONDS_PER_HOUR = 3600
_COPIES = 6  # the weights, their gradients, average and best, and the two moments of Adam


@dataclass
class Run:
    """The state of a training run."""

    recipe: Recipe
    model: VAE
    average: AveragedModel
    optimiser: torch.optim.Optimizer
    best_weights: dict[str, Tensor]
    best_epoch: int = 0
    history: list[Epoch] = field(default_factory=list)
    epochs_saved: int = 0

    @property
    def is_finished(self) -> bool:
        """Whether the recipe's last epoch has been trained, or `patience` epochs have not improved the validation."""
        epochs, patience = len(self.history), self.recipe.patience
        return epochs >= self.recipe.epochs or (patience is not None and epochs - self.best_epoch >= patience)

    def has_time(self, hours: float | None) -> bool:
        """Whether another epoch, as long as the last one, would end within `hours` of all epochs together."""
        if hours is None or not self.history:
            return True
        seconds = [epoch.seconds for epoch in self.history]
        return sum(seconds) + seconds[-1] <= hours * _SECONDS_PER_HOUR

    @property
    def device(self) -> torch.device:
        """The device of the model."""
        return self.model.device

    @property
    def averaged(self) -> VAE:
        """The model with its averaged weights: training measures and publishes this model."""
        return cast(VAE, self.average.module)

    @property
    def measure(self) -> str:
        """The name of the objective, such as ELBO."""
        return objective.name(self.recipe.model, self.recipe.objective)

    def state(self) -> dict[str, Any]:
        """The state that a checkpoint holds."""
        return {
            "model": self.model.state_dict(),
            "average": self.average.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "best_weights": self.best_weights,
            "best_epoch": self.best_epoch,
            "history": [asdict(epoch) for epoch in self.history],
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Take over the state of a checkpoint.

        Raises:
            KeyError, RuntimeError, TypeError, ValueError: the checkpoint is of another release.
        """
        self.model.load_state_dict(state["model"])
        self.averaged.load_state_dict(state["best_weights"])  # fails now if they are not weights
        self.average.load_state_dict(state["average"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.best_weights = state["best_weights"]
        self.best_epoch = operator.index(state["best_epoch"])
        self.history = TypeAdapter(list[Epoch]).validate_python(state["history"])
        self.epochs_saved = len(self.history)


def start(recipe: Recipe, device: torch.device) -> Run:
    """Make a run at epoch 0, with weights drawn from the recipe's seed.

    Raises:
        BadRecipe: its network does not fit into the memory.
    """
    copies = _COPIES if device.type == "cpu" else 1
    if shortage := memory_shortage(copies * 4 * count_parameters(empty(recipe.model))):
        raise BadRecipe(recipe.name, f"to train its network {shortage}; make it smaller")
    torch.manual_seed(recipe.seed)
    model = VAE(recipe.model)
    place(model, device, recipe.optimiser.precision)
    average = AveragedModel(model, multi_avg_fn=partial(moving_average, recipe.optimiser.average_decay))
    optimiser = torch.optim.Adam(model.parameters(), lr=recipe.optimiser.learning_rate, fused=True)
    return Run(recipe, model, average, optimiser, best_weights=_copy(model))


def train(run: Run, dataset: Dataset, save: Callable[[dict[str, Any]], None], *, hours: float | None = None) -> None:
    """Train until the run is finished or has no time, and save after each epoch; `averaged` then has the best weights.

    The first epoch is trained in any case.

    Raises:
        Diverged: the objective is no longer finite.
    """
    pixels = resident(dataset.train, run.device)
    while not run.is_finished and run.has_time(hours):
        number = len(run.history) + 1
        epoch = train_epoch(run, number, pixels, dataset)
        best = max((past.validation_nats for past in run.history), default=-math.inf)
        if epoch.validation_nats > best:
            run.best_weights, run.best_epoch = _copy(run.averaged), number
        run.history.append(epoch)
        save(run.state())
        run.epochs_saved = number
        console.epoch_line(epoch, run.recipe.epochs, run.measure, best=run.best_epoch == number)
    take_best(run, dataset)


def take_best(run: Run, dataset: Dataset) -> None:
    """Give `averaged` the best weights of all epochs, to be published."""
    run.averaged.load_state_dict(run.best_weights)
    _fit_deviation(run, dataset)


def learning_rate(recipe: Recipe, progress: float) -> float:
    """The learning rate at `progress` (0 to 1) of a run: it rises linearly, then falls to zero along a cosine."""
    peak, warmup = recipe.optimiser.learning_rate, recipe.optimiser.warmup_fraction
    if progress < warmup:
        return peak * progress / warmup
    return peak * 0.5 * (1 + math.cos(math.pi * (progress - warmup) / (1 - warmup)))


def train_epoch(run: Run, number: int, pixels: Tensor, dataset: Dataset) -> Epoch:
    """Train on all pixels uint8 (N, C, H, W) once, in the order of epoch `number`, and measure the validation images.

    `pixels` are `dataset.train`, on the device if they fit there.

    Raises:
        Diverged: the objective of the training or of the validation images is not finite.
    """
    generator = torch.Generator(run.device).manual_seed(run.recipe.seed * 1_000_003 + number)
    began = time.perf_counter()
    total = torch.zeros((), dtype=torch.float64, device=run.device)
    batches = math.ceil(len(pixels) / run.recipe.optimiser.batch_images)
    with console.epoch_bar(number, run.recipe.epochs, len(pixels), run.measure) as bar:
        for step, batch in enumerate(shuffled_batches(pixels, run.recipe.optimiser.batch_images, generator)):
            # the middle of the step: at both ends of a run the learning rate is zero, and a step would change nothing
            progress = (number - 1 + (step + 0.5) / batches) / run.recipe.epochs
            images = to_device(batch, run.device)
            if run.recipe.data.flips:
                images = flipped(images, generator)
            nats = train_step(run, images, progress, generator)
            total += nats.double() * len(batch)
            bar.step(len(batch), nats)
    train_nats = total.item() / len(pixels)
    trained = time.perf_counter()
    if not math.isfinite(train_nats):
        raise Diverged(number, run.recipe.optimiser.learning_rate)
    _fit_deviation(run, dataset)
    validated = validate(run.averaged, dataset.validation, run.recipe.objective)
    if not math.isfinite(validated.nats):
        raise Diverged(number, run.recipe.optimiser.learning_rate)
    return Epoch(
        number=number,
        train_nats=train_nats,
        validation_nats=validated.nats,
        validation_kl_nats=validated.kl_nats,
        images_per_s=len(pixels) / (trained - began),
        seconds=time.perf_counter() - began,
    )


def train_step(run: Run, pixels: Tensor, progress: float, generator: torch.Generator) -> Tensor:
    """Take one step on uint8 pixels (B, C, H, W) at `progress` (0 to 1); return the mean nats, still on the device."""
    recipe = run.recipe
    uniform = torch.rand(pixels.shape, generator=generator, device=run.device)
    images = binarise(pixels, uniform) if recipe.model.likelihood.is_binary else to_images(pixels)
    shape = objective.noise_shape(recipe.model, recipe.objective, len(pixels))
    noise = torch.randn(shape, generator=generator, device=run.device)
    with autocast(run.device, recipe.optimiser.precision):
        loss, nats = objective.compute(run.model, images, noise, recipe.objective, progress)
    run.optimiser.zero_grad()
    loss.backward()
    torch.nn.utils.clip_grad_norm_(run.model.parameters(), recipe.optimiser.gradient_norm)
    for group in run.optimiser.param_groups:
        group["lr"] = learning_rate(recipe, progress)
    run.optimiser.step()
    run.average.update_parameters(run.model)
    return nats.detach()


def moving_average(decay: float, averaged: list[Tensor], current: list[Tensor], count: int | Tensor) -> None:
    """Update an exponential average whose decay grows with the steps: after n steps it covers about the last n / 9."""
    early = (1 + int(count)) / (10 + int(count))
    move = get_ema_multi_avg_fn(min(decay, early))
    move(averaged, current, count)


def _fit_deviation(run: Run, dataset: Dataset) -> None:
    if run.recipe.objective.fits_deviation:
        run.averaged.config = with_fitted_deviation(run.averaged, dataset.train)


def _copy(model: VAE) -> dict[str, Tensor]:
    return {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}
