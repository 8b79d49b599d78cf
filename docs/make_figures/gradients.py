"""Idea 6: two estimates of one gradient."""

from __future__ import annotations

import torch
from matplotlib.figure import Figure
from torch import Tensor

from model_store.vae import DiagonalGaussian
from model_store.vae.noise import standard_normal
from training.console import say

from .material import Material
from .parts import SEED


def reparameterisation(_: Material) -> Figure:
    """Two estimates of the gradient of E[Σ z³] by one mean, over eight dimensions."""
    dimensions, estimates, draws = 8, 2000, 100
    parameters = standard_normal(SEED, 2, (dimensions,))
    posterior = DiagonalGaussian(parameters[:1], parameters[1:])
    noise = standard_normal(SEED + 1, estimates * draws, (dimensions,))
    closed = 3 * (posterior.mean.square() + posterior.log_variance.exp())[0, 0].item()
    found = [gradients.view(estimates, draws).mean(1) for gradients in gradients_of_first_mean(posterior, noise)]
    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.subplots()
    for name, values in zip(("through the draw: ∇ f(μ + σε)", "score function: f(z) ∇ log q(z)"), found, strict=True):
        spread = f"standard deviation {values.std():.2f}"
        say(f"  {name}: mean {values.mean():.2f}, {spread}; closed {closed:.2f}")
        axes.hist(values.tolist(), bins=60, alpha=0.7, density=True, label=f"{name}\n{spread}")
    axes.axvline(closed, color="black", linestyle=":", label=f"closed: {closed:.2f}")
    axes.set(xlabel="estimate of the gradient by $\\mu_1$, from 100 draws", yticks=[])
    axes.legend(frameon=False)
    return figure


def gradients_of_first_mean(posterior: DiagonalGaussian, noise: Tensor) -> tuple[Tensor, Tensor]:
    """∂/∂μ₁ of E[Σ z³] by each draw, (N,): through the draw by autograd, and by the score function."""
    mean = posterior.mean.expand(len(noise), -1).clone().requires_grad_()
    latents = DiagonalGaussian(mean, posterior.log_variance).sample(noise)
    value = latents.pow(3).sum(1)
    (slopes,) = torch.autograd.grad(value.sum(), mean)
    score_function = noise[:, 0] / (0.5 * posterior.log_variance[0, 0]).exp()
    return slopes[:, 0], value.detach() * score_function
