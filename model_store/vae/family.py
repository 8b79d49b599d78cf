"""The questions that the configuration record of every family answers.

A family is a kind of autoencoder, with one record that describes its networks; ours is `VAEConfig`. The service and
the training ask these questions and never look into the record.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Literal, NamedTuple, get_args

from .record import Record

Operation = Literal["encode", "decode", "sample", "reconstruct", "score", "interpolate", "traverse"]
OPERATIONS: tuple[Operation, ...] = get_args(Operation)


class Lack(NamedTuple):
    """The reason why a model cannot do an operation, to follow the name of the model; and what to do instead."""

    reason: str
    remedy: str


class ShapeMismatch(ValueError):
    """An image or a latent of a shape that the model does not take."""

    def __init__(self, got: Sequence[int], expected: Sequence[int], remedy: str) -> None:
        super().__init__(f"The shape is {tuple(got)}, but the model takes {tuple(expected)}; {remedy}.")
        self.got = got
        self.expected = expected
        self.remedy = remedy


class FamilyConfig(Record, ABC):
    """The configuration of a network, as a card holds it."""

    @abstractmethod
    def latent_shape_of(self, image_shape: tuple[int, ...]) -> tuple[int, ...]:
        """The shape of the latent of an image (C, H, W).

        Raises:
            ShapeMismatch: the model does not take images of that shape.
        """

    @abstractmethod
    def image_shape_of(self, latent_shape: tuple[int, ...]) -> tuple[int, int, int]:
        """The shape (C, H, W) of the image of a latent.

        Raises:
            ShapeMismatch: the model does not take latents of that shape.
        """

    @abstractmethod
    def lacks(self, operation: Operation) -> Lack | None:
        """Why the model cannot do an operation; None if it can."""

    @property
    @abstractmethod
    def activation_bytes(self) -> int:
        """A bound of the memory that a forward pass of one image needs besides the weights."""

    @property
    def can(self) -> frozenset[Operation]:
        """The operations that the model can do."""
        return frozenset(operation for operation in OPERATIONS if self.lacks(operation) is None)
