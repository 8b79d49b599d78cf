"""VAEConfig: all that is needed to build a network.

Every size has a bound, so that a card from a stranger cannot ask for more memory than a machine has.
This module knows no tensors: `model.py` builds the network.
"""

from __future__ import annotations

from itertools import pairwise
from math import prod
from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, model_validator

from .family import FamilyConfig, ImageShape, Lack, Operation, SamplerName, ShapeMismatch
from .record import Record

Width = Annotated[int, Field(ge=1, le=8192)]
Side = Annotated[int, Field(ge=1, le=4096)]
Activation = Literal["tanh", "relu", "silu"]

_SEND_THAT_SHAPE = "send them in that shape"
_NO_ENCODER = Lack("has no encoder", "sample, decode and traverse work, and interpolate between latents")

# the kinds of posterior that lack an operation; a kind that is not listed for an operation can do it
_LACKS: dict[tuple[str, Operation], Lack] = {
    ("point", "sample"): Lack(
        "is a plain autoencoder, which has no prior to draw from",
        "decode latents, interpolate between images, or fit a sampler with python -m training.fit_prior",
    ),
    ("point", "score"): Lack(
        "is a plain autoencoder and gives a point where a score needs a distribution q(z|x)",
        "ask reconstruct for its error, or score with a variational autoencoder",
    ),
    ("none", "encode"): _NO_ENCODER,
    ("none", "reconstruct"): _NO_ENCODER,
    ("none", "score"): _NO_ENCODER,
}

VALUES_OF_A_SQUARE = 4  # of 2×2 values, which become one where the resolution is halved
MIN_SIDE_OF_A_MAP = 2  # two values make a straight line
MAX_LATENT_VALUES = 2**20
MAX_ACTIVATION_BYTES = 2**30
# The memory of a forward pass is a few tensors of the size of its largest one: 3 to 6 such tensors for most networks,
# 9.2 for the score of a discretised logistic in ONNX Runtime (one image of 1024×1024, 2026-11-26).
_LARGE_TENSORS = 10
_FLOAT32_BYTES = 4
# The rounding of pixels to 8 bits alone has a standard deviation of 1/(255·√12) = 0.0011 on the scale of images. Far
# below it, the squared errors in log p(x|z) have more digits than float32.
MIN_DEVIATION, MAX_DEVIATION = 1e-3, 10.0
# A coupling has a layer for all values of a latent, and a mixture holds a number for each value of each component.
MAX_LEARNED_VALUES = 1024
MAX_MIXTURE_NUMBERS = 2**16


class MLPConfig(Record):
    """Fully connected networks: `hidden` units per layer of the encoder; the decoder mirrors them."""

    kind: Literal["mlp"] = "mlp"
    hidden: Annotated[tuple[Width, ...], Field(min_length=1, max_length=16)]
    activation: Activation = "tanh"


class ConvolutionsConfig(Record):
    """Each entry of `widths` halves the resolution and gives its channels."""

    kind: str
    widths: Annotated[tuple[Width, ...], Field(min_length=1, max_length=8)]
    blocks: Annotated[int, Field(ge=0, le=16, description="residual blocks at each resolution")] = 1
    hidden: Annotated[
        Width | None, Field(description="units between the feature map and a latent vector; none for a grid")
    ] = None

    @property
    def reduction(self) -> int:
        """The number of pixels of a side that become one cell of the smallest feature map."""
        return int(2 ** len(self.widths))

    def smallest_map(self, image_shape: ImageShape) -> tuple[int, int, int]:
        """The shape (C, h, w) of the smallest feature map of an image (C, H, W)."""
        _, height, width = image_shape
        return (self.widths[-1], height // self.reduction, width // self.reduction)


class ConvConfig(ConvolutionsConfig):
    """Residual convolutional networks, whose decoder gives pixels by a transposed convolution."""

    kind: Literal["conv"] = "conv"

    def largest_map(self, height: int, width: int) -> int:
        """The values of the largest feature map of an image of that size."""
        return max(channels * (height * width >> 2 * level) for level, channels in enumerate(self.widths, start=1))


class ShortcutConvConfig(ConvolutionsConfig):
    """Residual convolutional networks for pictures, which add no checkerboard, and no frame to gradients.

    Each width is one, two or four times the width before, as the shortcuts between resolutions need it.
    """

    kind: Literal["shortcut_conv"] = "shortcut_conv"

    def largest_map(self, height: int, width: int) -> int:
        """The values of the largest feature map of an image of that size.

        A map has a ring around it. Before it is doubled, the means of its channels lie beside it.
        """
        means = (0, *self.widths)
        return max(
            (channels + means[level - 1]) * ((height >> level) + 2) * ((width >> level) + 2)
            for level, channels in enumerate(self.widths, start=1)
        )

    @model_validator(mode="after")
    def _shortcuts_fit_the_widths(self) -> Self:
        for narrow, wide in pairwise(self.widths):
            if wide not in (narrow, 2 * narrow, VALUES_OF_A_SQUARE * narrow):
                raise ValueError(
                    f"widths has {wide} after {narrow}, but a width must be 1, 2 or 4 times the width before it, for "
                    f"example {2 * narrow}"
                )
        return self


class BernoulliConfig(Record):
    """Binary pixels: the decoder gives each pixel's probability of being on."""

    kind: Literal["bernoulli"] = "bernoulli"
    is_binary: ClassVar[bool] = True
    is_8_bit: ClassVar[bool] = False

    def numbers_per_pixel(self, channels: int) -> int:
        """The number of numbers that the decoder gives for a pixel."""
        return channels


class GaussianConfig(Record):
    """Real-valued pixels: the decoder gives their mean, and their variance unless it is fixed."""

    kind: Literal["gaussian"] = "gaussian"
    standard_deviation: Annotated[float, Field(ge=MIN_DEVIATION, le=MAX_DEVIATION)] | None = Field(
        default=None, description="of every pixel, where images are in [0, 1]; learned, pixel by pixel, if left out"
    )
    is_binary: ClassVar[bool] = False
    is_8_bit: ClassVar[bool] = False

    def numbers_per_pixel(self, channels: int) -> int:
        """The number of numbers that the decoder gives for a pixel."""
        return 2 * channels if self.standard_deviation is None else channels


class DiscretisedLogisticConfig(Record):
    """8-bit pixels: the decoder gives location and scale of a logistic distribution over the 256 values."""

    kind: Literal["discretised_logistic"] = "discretised_logistic"
    is_binary: ClassVar[bool] = False
    is_8_bit: ClassVar[bool] = True  # only a probability of 8-bit pixels can be given in bits per dimension

    def numbers_per_pixel(self, channels: int) -> int:
        """The number of numbers that the decoder gives for a pixel."""
        return 2 * channels


class LogisticMixtureConfig(Record):
    """8-bit pixels: the decoder gives a mixture of discretised logistic distributions for all colours of a pixel."""

    kind: Literal["logistic_mixture"] = "logistic_mixture"
    components: Annotated[int, Field(ge=1, le=64)] = 5
    is_binary: ClassVar[bool] = False
    is_8_bit: ClassVar[bool] = True

    def numbers_per_pixel(self, channels: int) -> int:
        """The number of numbers that the decoder gives for a pixel: a weight and two for each colour and component.

        The location of a colour also depends on the colours before it: one number more for each pair of colours.
        """
        pairs = channels * (channels - 1) // 2
        return self.components * (1 + 2 * channels + pairs)


class StandardNormalConfig(Record):
    """p(z) = N(0, I)."""

    kind: Literal["standard_normal"] = "standard_normal"


class UniformConfig(Record):
    """p(z) = U(0, 1) in every dimension."""

    kind: Literal["uniform"] = "uniform"


class FlowConfig(Record):
    """p(z) is learned: a normalising flow of affine couplings, each with a network of two layers of `width` units."""

    kind: Literal["flow"] = "flow"
    couplings: Annotated[int, Field(ge=1, le=64)] = 12
    width: Annotated[int, Field(ge=1, le=1024)] = 256


class MixtureConfig(Record):
    """p(z) is learned: a mixture of Gaussians with diagonal covariances."""

    kind: Literal["mixture"] = "mixture"
    components: Annotated[int, Field(ge=1, le=4096)] = 100


Learned = Annotated[FlowConfig | MixtureConfig, Field(discriminator="kind")]
Posterior = Literal["diagonal_gaussian", "point", "none"]
Likelihood = Annotated[
    BernoulliConfig | GaussianConfig | DiscretisedLogisticConfig | LogisticMixtureConfig, Field(discriminator="kind")
]
Prior = Annotated[StandardNormalConfig | UniformConfig | FlowConfig | MixtureConfig, Field(discriminator="kind")]


class VAEConfig(FamilyConfig):
    """A variational autoencoder: image shape (C, H, W), latent shape, network, posterior, likelihood and prior.

    `latent_shape` is `(D,)` for a vector and `(C, H, W)` for a grid. The posterior is `point` for a plain
    autoencoder, whose encoder gives one latent, and `none` for a generator without an encoder. The `samplers` are
    distributions that were fitted to the latents of images, from which samples can be drawn.

    Raises:
        ValueError: the parts do not fit each other; the message names both values.
    """

    # "vae" is not written: a card without `family` and a new card have the same text
    family: Annotated[Literal["vae"], Field(exclude_if=lambda family: family == "vae")] = "vae"
    image_shape: tuple[Literal[1, 3], Side, Side]
    latent_shape: Annotated[tuple[Width, ...], Field(min_length=1, max_length=3)]
    network: Annotated[MLPConfig | ConvConfig | ShortcutConvConfig, Field(discriminator="kind")]
    posterior: Posterior = "diagonal_gaussian"
    likelihood: Likelihood = BernoulliConfig()
    prior: Prior = StandardNormalConfig()
    # not written without a value: cards of models without samplers keep their text
    samplers: Annotated[
        tuple[Learned, ...],
        Field(
            max_length=2,
            exclude_if=lambda samplers: not samplers,
            description="written by python -m training.fit_prior; a recipe cannot have them",
        ),
    ] = ()

    def latent_shape_of(self, image_shape: tuple[int, ...]) -> tuple[int, ...]:
        """The latent shape of the model, which takes only images of its one shape.

        Raises:
            ShapeMismatch: the images have another shape.
        """
        if image_shape != self.image_shape:
            raise ShapeMismatch(image_shape, self.image_shape, _SEND_THAT_SHAPE)
        return self.latent_shape

    def image_shape_of(self, latent_shape: tuple[int, ...]) -> tuple[int, int, int]:
        """The image shape of the model, for latents of the model's only latent shape.

        Raises:
            ShapeMismatch: the latents have another shape.
        """
        if latent_shape != self.latent_shape:
            raise ShapeMismatch(latent_shape, self.latent_shape, _SEND_THAT_SHAPE)
        return self.image_shape

    def lacks(self, operation: Operation) -> Lack | None:
        """Why the model cannot do an operation; None if it can."""
        if operation == "sample" and self.samplers:
            return None
        return _LACKS.get((self.posterior, operation))

    @property
    def sampler_names(self) -> tuple[SamplerName, ...]:
        """The names of the distributions from which samples can be drawn; the first is the default."""
        own: tuple[SamplerName, ...] = () if self.is_posterior_a_point else ("prior",)
        return own + tuple(sampler.kind for sampler in self.samplers)

    @property
    def has_learned_prior(self) -> bool:
        """Whether the prior has weights, so that its KL is measured by draws."""
        return isinstance(self.prior, FlowConfig | MixtureConfig)

    def fitting_shape(self, height: int, width: int) -> ImageShape:  # noqa: ARG002  # one shape fits all
        """The image shape of the model, for images of every size."""
        return self.image_shape

    @property
    def example_shape(self) -> ImageShape:
        """The image shape of the model."""
        return self.image_shape

    def activation_bytes_of(self, image_shape: ImageShape) -> int:  # noqa: ARG002  # there is only one
        """A bound of the memory that a forward pass of one image needs besides the weights."""
        return self.activation_bytes

    @property
    def activation_bytes(self) -> int:
        """A bound of the memory that a forward pass of one image needs besides the weights."""
        _, *size = self.image_shape
        network = self.network
        largest = max(
            self.numbers_per_image,
            prod(self.latent_shape) * self.numbers_per_latent,
            max(network.hidden) if isinstance(network, MLPConfig) else network.largest_map(*size),
        )
        return _LARGE_TENSORS * _FLOAT32_BYTES * largest

    @property
    def is_posterior_a_point(self) -> bool:
        """Whether the model is a plain autoencoder, whose encoder gives one latent for each image."""
        return self.posterior == "point"

    @property
    def numbers_per_latent(self) -> int:
        """2 if the encoder gives a mean and a log-variance for each value of a latent, 1 if it gives a point."""
        return 1 if self.is_posterior_a_point else 2

    @property
    def encoder_channels(self) -> int:
        """The size of the encoder's output along dimension 1."""
        return self.latent_shape[0] * self.numbers_per_latent

    @property
    def decoder_channels(self) -> int:
        """The size of the decoder's output along dimension 1."""
        return self.likelihood.numbers_per_pixel(self.image_shape[0])

    @property
    def numbers_per_image(self) -> int:
        """The number of numbers that the decoder gives for an image."""
        return self.decoder_channels * prod(self.image_shape[1:])

    @model_validator(mode="after")
    def _autoencoder_has_no_prior_to_transform(self) -> Self:
        if self.posterior == "point" and not isinstance(self.prior, StandardNormalConfig):
            raise ValueError("posterior point is a plain autoencoder, which has no prior; leave prior out")
        return self

    @model_validator(mode="after")
    def _learned_distributions_fit_the_model(self) -> Self:
        if self.posterior == "none" and (self.has_learned_prior or self.samplers):
            raise ValueError(
                "posterior none has no latents of images, to which a flow or a mixture could be fitted; leave them out"
            )
        if len({sampler.kind for sampler in self.samplers}) < len(self.samplers):
            raise ValueError("samplers has two of the same kind; a kind is the name of a sampler, so leave one out")
        values = prod(self.latent_shape)
        for place, learned in (("prior", self.prior), *(("samplers", sampler) for sampler in self.samplers)):
            if isinstance(learned, FlowConfig | MixtureConfig) and not 2 <= values <= MAX_LEARNED_VALUES:
                raise ValueError(
                    f"{place} {learned.kind} is for latents of 2 to {MAX_LEARNED_VALUES} values, but latent_shape "
                    f"{self.latent_shape} has {values}; use another latent_shape or leave it out"
                )
            if isinstance(learned, MixtureConfig) and learned.components * values > MAX_MIXTURE_NUMBERS:
                raise ValueError(
                    f"{place} mixture may have {MAX_MIXTURE_NUMBERS} means, but {learned.components} components of "
                    f"{values} values are {learned.components * values}; use fewer components"
                )
        return self

    @model_validator(mode="after")
    def _sizes_are_affordable(self) -> Self:
        if prod(self.latent_shape) > MAX_LATENT_VALUES:
            raise ValueError(f"latent_shape {self.latent_shape} has more than {MAX_LATENT_VALUES} values")
        if self.activation_bytes > MAX_ACTIVATION_BYTES:
            raise ValueError(
                f"image_shape {self.image_shape} and the widths of the network need {self.activation_bytes:,} bytes to "
                f"compute one image, but may need {MAX_ACTIVATION_BYTES:,}; use a smaller image_shape or smaller widths"
            )
        return self

    @model_validator(mode="after")
    def _network_fits_the_shapes(self) -> Self:
        if isinstance(self.network, MLPConfig):
            return self
        _, height, width = self.image_shape
        reduction = self.network.reduction
        if height % reduction or width % reduction:
            raise ValueError(
                f"network.widths has a length of {len(self.network.widths)} and reduces each side {reduction} times, "
                f"but {height}×{width} images cannot be divided by {reduction}; use fewer widths or another size"
            )
        _, *smallest = self.network.smallest_map(self.image_shape)
        if isinstance(self.network, ShortcutConvConfig) and min(smallest) < MIN_SIDE_OF_A_MAP:
            raise ValueError(
                f"network.widths has a length of {len(self.network.widths)}, with which the smallest feature map of "
                f"{height}×{width} images is {smallest[0]}×{smallest[1]}, but it must be at least 2×2; use fewer widths"
            )
        is_vector = len(self.latent_shape) == 1 and self.network.hidden is not None
        is_grid = self.latent_shape[1:] == tuple(smallest) and self.network.hidden is None
        if not (is_vector or is_grid):
            raise ValueError(
                f"latent_shape {self.latent_shape} does not fit the network: with network.hidden it is a vector "
                f"(D,), without it a grid (C, {smallest[0]}, {smallest[1]})"
            )
        return self
