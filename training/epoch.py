"""Epoch: what is remembered of one pass over the training images."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Epoch:
    """The bounds are means per image in nats; `seconds` include the validation."""

    number: int
    train_elbo_nats: float
    validation_elbo_nats: float
    validation_kl_nats: float
    images_per_s: float
    seconds: float
