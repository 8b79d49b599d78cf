"""The questions that the configuration record of every family answers.

A family is a kind of autoencoder, with one record that describes its networks; ours is `VAEConfig`. The service and
the training ask these questions and never look into the record.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Literal, NamedTuple, get_args

from .record import Record
from .scaling import Scaling

# (C, H, W) of an image and (D,) or (C, H, W) of a latent; None for a side that may have many sizes
ImageShape = tuple[int, int, int]
OpenShape = tuple[int | None, ...]
Operation = Literal["encode", "decode", "sample", "reconstruct", "score", "interpolate", "traverse"]
OPERATIONS: tuple[Operation, ...] = get_args(Operation)
Direction = Literal["encode", "decode"]
SamplerName = Literal["prior", "flow", "mixture"]


class Lack(NamedTuple):
    """The reason why a model cannot do an operation, to follow the name of the model; and what to do instead."""

    reason: str
    remedy: str


class ShapeMismatch(ValueError):
    """An image or a latent of a shape that the model does not take."""

    def __init__(self, got: Sequence[int], expected: Sequence[int | None], remedy: str) -> None:
        super().__init__(f"The shape is {tuple(got)}, but the model takes {tuple(expected)}; {remedy}.")
        self.got = got
        self.expected = expected
        self.remedy = remedy


class FamilyConfig(Record, ABC):
    """The configuration of a network, as a card holds it."""

    image_shape: tuple[int, int | None, int | None]
    latent_shape: OpenShape

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

    @abstractmethod
    def fitting_shape(self, height: int, width: int) -> ImageShape:
        """The shape of images that the model takes and into which images of that size are resized or padded."""

    @abstractmethod
    def activation_bytes_of(self, image_shape: ImageShape) -> int:
        """A bound of the memory that a forward pass of one image of that shape needs besides the weights."""

    @property
    @abstractmethod
    def example_shape(self) -> ImageShape:
        """The shape of the images with which the model is tried; the only one if the model takes no other."""

    @property
    def example_latent_shape(self) -> tuple[int, ...]:
        """The shape of the latents of images of the `example_shape`."""
        return self.latent_shape_of(self.example_shape)

    @property
    @abstractmethod
    def is_posterior_a_point(self) -> bool:
        """Whether the encoder gives one latent for each image, and not a distribution."""

    @property
    def sampler_names(self) -> tuple[SamplerName, ...]:
        """The names of the distributions from which samples can be drawn, the default first; none in most families."""
        return ()

    @property
    def space(self) -> str | None:
        """The name of the space of the latents; None where only this model knows it."""
        return None

    @property
    def latent_scaling(self) -> Scaling:
        """The numbers with which other programs exchange the latents; none where no other program does."""
        return Scaling()

    @property
    def overflows_in_float16(self) -> bool:
        """Whether the activations of the network are too large for float16."""
        return False

    @property
    def multiple(self) -> int:
        """Each side of an image is a multiple of this; 1 for a model that takes one size only."""
        return 1

    @property
    def halo(self) -> int | None:
        """The pixels around a part of an image on which the part's answer depends; None if it depends on all of them.

        A network with a halo has two stages each way, of which the one at the lowest resolution may depend on the whole
        image: `encode_local` and `encode_whole`, `decode_whole` and `decode_local`.
        """
        return None

    def middle_bytes_of(self, image_shape: ImageShape) -> int:  # noqa: ARG002  # most networks have no such stage
        """A bound of the memory of the stage that depends on the whole image, where a network has a halo."""
        return 0

    @property
    def takes_any_size(self) -> bool:
        """Whether the model takes images of many sizes."""
        return None in self.image_shape

    @property
    def can(self) -> frozenset[Operation]:
        """The operations that the model can do."""
        return frozenset(operation for operation in OPERATIONS if self.lacks(operation) is None)
