"""Idea 2: the same decoder, trained by draws of the prior and of the posterior."""

from __future__ import annotations

from matplotlib.figure import Figure

from training.console import say
from training.evaluate.bounds import evidence, score

from .material import SMALL, Material
from .parts import samples, show, signed

GENERATOR = (
    *SMALL,
    "epochs=8",
    "model.latent_shape=[8]",
    "model.likelihood.kind=gaussian",
    "model.likelihood.standard_deviation=0.25",
)


def ml_vs_vae(material: Material) -> Figure:
    """Samples of the same decoder, trained for the same number of steps in two ways."""
    generator = material.trained(*GENERATOR, "model.posterior=none", "objective.draws=100")
    vae = material.trained(*GENERATOR)
    test = material.images.test[:1000]
    prior, unguided = (evidence(model, test).mean().item() for model in (generator, vae))
    posterior = score(vae, test, draws=100).importance_weighted_nats.mean().item()
    say(f"  bounds of log p(x), mean of {len(test)} test images: generator {prior:.1f} by 1000 draws of the prior,")
    say(f"  VAE {posterior:.1f} by 100 draws of the posterior, and {unguided:.1f} by 1000 of the prior")
    figure = Figure(figsize=(9, 5.3), layout="constrained")
    left, right = figure.subplots(1, 2)
    show(left, samples(generator, 64), title=f"draws of the prior, 100 a step\nlog p(x) ≥ {signed(prior)} nats")
    show(right, samples(vae, 64), title=f"draws of the posterior, 1 an image\nlog p(x) ≥ {signed(posterior)} nats")
    return figure
