"""Validation: the number by which a run chooses its best weights."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from model_store import VAE

from .evaluate.bounds import evidence, point_likelihood, score
from .objective import ObjectiveRecipe


@dataclass(frozen=True)
class Validation:
    """The objective of the validation images in nats and their KL, both means per image; None without a posterior."""

    nats: float
    kl_nats: float | None


def validate(model: VAE, pixels: Tensor, objective: ObjectiveRecipe) -> Validation:
    """Measure uint8 pixels (N, C, H, W) by the objective, without the changes that help training (see `objective`)."""
    if "encode" not in model.config.can:
        return Validation(evidence(model, pixels).mean().item(), None)
    if "score" not in model.config.can:
        return Validation(point_likelihood(model, pixels).mean().item(), None)
    bound = score(model, pixels, objective.draws if objective.importance_weighted else 1)
    nats = bound.importance_weighted_nats if objective.importance_weighted else bound.elbo_nats
    return Validation(nats.mean().item(), bound.kl_nats.mean().item())
