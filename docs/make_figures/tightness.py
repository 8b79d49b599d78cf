"""Idea 4: the bound rises towards log p(x)."""

from __future__ import annotations

import math

import torch
from matplotlib.figure import Figure
from torch import Tensor
from torch.nn import functional as F

from model_store import VAE
from model_store.vae import Bernoulli, DiagonalGaussian, StandardNormal
from model_store.vae.pixels import to_images
from model_store.vae.scoring_protocol import binarised_for_scoring
from training.console import say
from training.evaluate.bounds import EVALUATION_SEED, score

from .material import Material
from .parts import signed


def bound(material: Material) -> Figure:
    """The importance-weighted bound rises with its draws to log p(x), which can be integrated over two latents."""
    model, pixels = material.plane, material.images.test[:500]
    elbo = score(model, pixels, draws=1000).elbo_nats.mean().item()
    exact, divergence = (values.mean().item() for values in integrated(model, pixels))
    draws = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000)
    weighted = [score(model, pixels, count).importance_weighted_nats.mean().item() for count in draws]
    say(f"  ELBO {elbo:.2f} + KL(q‖p(z|x)) {divergence:.2f} = {elbo + divergence:.2f}; log p(x) {exact:.2f} nats")
    say("  " + ", ".join(f"L_{count} {value:.2f}" for count, value in zip(draws, weighted, strict=True)))
    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.subplots()
    axes.axhline(exact, color="black", label=f"log p(x) by integration: {signed(exact, 2)}")
    axes.semilogx(draws, weighted, "o-", label="importance-weighted bound of K draws")
    axes.axhline(elbo, color="tab:red", linestyle="--", label=f"ELBO: {signed(elbo, 2)}; below log p(x) by its KL")
    axes.set(xlabel="K", ylabel="nats per image")
    axes.legend(frameon=False, loc="center right")
    axes.grid(alpha=0.3)
    return figure


@torch.inference_mode()
def integrated(model: VAE, pixels: Tensor, end: float = 6.0, step: float = 0.02) -> tuple[Tensor, Tensor]:
    """log p(x) and KL(q(z|x) ‖ p(z|x)), (N,) each, as sums over a grid of two latents from −`end` to `end`."""
    images = to_images(binarised_for_scoring(model.config, pixels, EVALUATION_SEED))
    posterior, axis = model.posterior(images), torch.arange(-end, end, step)
    area = 2 * math.log(step)
    log_evidence = torch.full((len(images),), -torch.inf)
    divergence = torch.zeros(len(images), dtype=torch.float64)
    for latents in torch.split(torch.cartesian_prod(axis, axis), 10_000):
        joint = log_joint(model, images, latents)
        log_q = log_densities(posterior, latents)
        log_evidence = log_evidence.logaddexp(joint.logsumexp(1) + area)
        divergence += ((log_q + area).exp() * (log_q - joint)).double().sum(1)
    return log_evidence, divergence + log_evidence


def log_joint(model: VAE, images: Tensor, latents: Tensor) -> Tensor:
    """log p(x, z) of each binary image with each latent, (N, M), for a Bernoulli likelihood."""
    likelihood = model.decode(latents)
    assert isinstance(likelihood, Bernoulli)  # noqa: S101  # for the type checker
    logits = likelihood.logits.flatten(1)
    return images.flatten(1) @ logits.T - F.softplus(logits).sum(1) + StandardNormal().log_prob(latents)


def log_densities(posterior: DiagonalGaussian, latents: Tensor) -> Tensor:
    """log q(z|x) of each latent (M, D) under the posterior of each image, (N, M)."""
    scaled = (latents - posterior.mean.unsqueeze(1)).square() * (-posterior.log_variance).exp().unsqueeze(1)
    return -0.5 * (scaled + posterior.log_variance.unsqueeze(1) + math.log(2 * math.pi)).sum(2)
