"""Ideas 3 and 5: the plane of latents, and the effect of the KL on it."""

from __future__ import annotations

import torch
from matplotlib.figure import Figure
from torch import Tensor

from model_store import VAE
from training.console import say
from training.evaluate.bounds import score

from .material import PLANE, Material
from .parts import LEGEND, circles, decoded, means, numbers, percent, scatter, show


def kl(material: Material) -> Figure:
    """The posterior means of test images in a plane, for three weights of the KL."""
    figure = Figure(figsize=(10, 4), layout="constrained")
    for axes, weight in zip(figure.subplots(1, 3, sharex=True, sharey=True), (0.05, 1.0, 4.0), strict=True):
        model = material.plane if weight == 1 else material.trained(*PLANE, f"objective.kl_weight={weight}")
        nats = say_scores(model, material.images.test, f"β = {weight:g}")
        scatter(axes, means(model, material.images.test[:2000]), material.labels[:2000])
        circles(axes)
        axes.set(title=f"β = {weight:g}: KL {nats:.1f} nats", xlim=(-6, 6), ylim=(-6, 6), aspect="equal")
    figure.legend(*axes.get_legend_handles_labels(), ncols=10, frameon=False, loc="outside lower center", **LEGEND)
    return figure


def say_scores(model: VAE, pixels: Tensor, name: str) -> float:
    """Print the scores of uint8 pixels (N, C, H, W) and the spread of their latents; return the mean KL in nats."""
    scores, places = score(model, pixels), means(model, pixels)
    say(f"  {name}: log-likelihood {scores.log_likelihood_nats.mean():.1f} − KL {scores.kl_nats.mean():.2f}")
    say(f"    = ELBO {scores.elbo_nats.mean():.1f} nats, mean of {len(pixels)} test images")
    say(f"    standard deviation of the means {numbers(places.std(0))}; {percent(places.abs().amax(1) > 6)} beyond 6")
    return scores.kl_nats.mean().item()


def manifold(material: Material) -> Figure:
    """The plane of latents, decoded at the quantiles of the prior."""
    count = 20
    quantiles = torch.special.ndtri((torch.arange(count) + 0.5) / count)
    latents = torch.cartesian_prod(-quantiles, quantiles).flip(1)  # z₁ to the right, z₂ upwards
    figure = Figure(figsize=(6, 6.2), layout="constrained")
    axes = figure.subplots()
    show(axes, decoded(material.plane, latents), columns=count)
    axes.set(xlabel="$z_1$, quantiles of the prior", ylabel="$z_2$, quantiles of the prior")
    return figure
