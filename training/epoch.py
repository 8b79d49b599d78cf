"""Epoch: the results of one pass over the training images."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Epoch:
    """The mean objective per image and its KL, None without a posterior. `seconds` includes the validation."""

    number: int
    train_nats: float
    validation_nats: float
    validation_kl_nats: float | None
    images_per_s: float
    seconds: float
