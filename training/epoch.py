"""Epoch: what is remembered of one pass over the training images."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Epoch:
    """Nats are the objective's, means per image; the KL is None for a model without one. Seconds include validation."""

    number: int
    train_nats: float
    validation_nats: float
    validation_kl_nats: float | None
    images_per_s: float
    seconds: float
