"""DiffusersConfig: the record of an autoencoder of the library diffusers. This module knows neither tensors nor it.

The arguments of each class are records too, with the names and defaults of diffusers 0.42.1. Every size has a bound, so
that a card from a stranger cannot describe a network that takes an endless time to build.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from math import prod
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from ..vae.family import ImageShape, ShapeMismatch
from ..vae.pretrained import Channels, PretrainedConfig
from ..vae.record import Record

Width = Annotated[int, Field(ge=1, le=4096)]
Blocks = Annotated[int, Field(ge=0, le=16)]
Widths = Annotated[tuple[Width, ...], Field(min_length=1, max_length=8)]
BlocksOfStages = Annotated[tuple[Blocks, ...], Field(min_length=1, max_length=8)]
Activation = Literal["swish", "silu", "mish", "gelu", "relu"]
Kernels = Annotated[tuple[Annotated[int, Field(ge=1, le=15)], ...], Field(max_length=4)]

_FLOAT32_BYTES = 4
# The growth of a process by one picture of 256×256, in maps of the largest size: 5.5 for the networks of Stable
# Diffusion, 6.8 for MoVQ and for AutoencoderDC, 7.7 for AutoencoderTiny (torch 2.13 on one thread, 2026-11-27).
_MAPS = 10
# A CPU keeps kernels of 3×3 in another order while it uses them. With a picture of 128×128, AutoencoderDC grew by 264
# MB, which is 6.6 maps more; its largest kernel has 38 MB.
_KERNELS = 4
_KERNEL_CELLS = 9
_DISTANCES = 2  # tensors of the distances between all cells of a latent and all embeddings
_EXPANSION = 8  # channels inside an EfficientViTBlock, for each channel of the block


class Arguments(Record, ABC):
    """The arguments that every class has. The classes derive the sizes from them."""

    in_channels: Literal[1, 3] = 3
    latent_channels: Channels

    @property
    def embeddings(self) -> int:
        """The number of vectors that latents are replaced by; 0 for the classes that decode the latents themselves."""
        return 0

    @property
    def channels_of_latents(self) -> int:
        """The channels of the latents."""
        return self.latent_channels

    @property
    def least_cells(self) -> int:
        """The least number of cells that a latent must have: height times width."""
        return 1

    @property
    @abstractmethod
    def widths(self) -> Sequence[int]:
        """The channels at each resolution, of the whole picture first."""

    @property
    def largest_maps(self) -> Sequence[int]:
        """The channels of the largest map at each resolution: a decoder has the maps of the next one there too."""
        return [max(self.widths[level : level + 2]) for level in range(len(self.widths))]


class _BlockArguments(Arguments):
    """The arguments that AutoencoderKL and VQModel share."""

    out_channels: Literal[1, 3] = 3
    down_block_types: tuple[Literal["DownEncoderBlock2D", "AttnDownEncoderBlock2D"], ...] = ("DownEncoderBlock2D",)
    up_block_types: tuple[Literal["UpDecoderBlock2D", "AttnUpDecoderBlock2D"], ...] = ("UpDecoderBlock2D",)
    block_out_channels: Widths = (64,)
    layers_per_block: Annotated[int, Field(ge=1, le=16)] = 1
    act_fn: Activation = "silu"
    norm_num_groups: Width = 32
    mid_block_add_attention: bool = True

    @property
    def widths(self) -> Sequence[int]:
        """The channels at each resolution, of the whole picture first."""
        return self.block_out_channels

    @property
    def least_cells(self) -> int:
        """Two if each channel is a group of its own: torch refuses to normalise a single value."""
        return 2 if self.block_out_channels[-1] == self.norm_num_groups else 1

    @model_validator(mode="after")
    def _parts_fit(self) -> Self:
        _check_equal("in_channels, out_channels", self.in_channels, self.out_channels)
        stages = len(self.block_out_channels)
        _check_equal("the lengths of down_block_types, block_out_channels", len(self.down_block_types), stages)
        _check_equal("the lengths of up_block_types, block_out_channels", len(self.up_block_types), stages)
        if any(width % self.norm_num_groups for width in self.block_out_channels):
            raise ValueError(
                f"block_out_channels {self.block_out_channels} must be multiples of "
                f"norm_num_groups {self.norm_num_groups}"
            )
        return self


class KLArguments(_BlockArguments):
    """AutoencoderKL: the variational autoencoder of Stable Diffusion, FLUX.1 and others (Rombach et al. 2022)."""

    class_name: Literal["AutoencoderKL"]
    latent_channels: Channels = 4
    use_quant_conv: bool = True
    use_post_quant_conv: bool = True


class VQArguments(_BlockArguments):
    """VQModel: latents are replaced by the nearest of `num_vq_embeddings` vectors before they are decoded."""

    class_name: Literal["VQModel"]
    latent_channels: Channels = 3
    num_vq_embeddings: Annotated[int, Field(ge=1, le=2**20)] = 256
    vq_embed_dim: Channels | None = None
    norm_type: Literal["group", "spatial"] = "group"

    @property
    def embeddings(self) -> int:
        """The number of vectors that latents are replaced by."""
        return self.num_vq_embeddings

    @property
    def channels_of_latents(self) -> int:
        """The channels of the latents: the length of an embedding."""
        return self.vq_embed_dim or self.latent_channels


class TinyArguments(Arguments):
    """AutoencoderTiny: the tiny autoencoders (TAESD) as the library has them."""

    class_name: Literal["AutoencoderTiny"]
    out_channels: Literal[1, 3] = 3
    encoder_block_out_channels: Widths = (64, 64, 64, 64)
    decoder_block_out_channels: Widths = (64, 64, 64, 64)
    act_fn: Activation = "relu"
    upsample_fn: Literal["nearest", "nearest-exact", "bilinear", "bicubic"] = "nearest"
    latent_channels: Channels = 4
    upsampling_scaling_factor: Literal[2] = 2
    num_encoder_blocks: BlocksOfStages = (1, 3, 3, 3)
    num_decoder_blocks: BlocksOfStages = (3, 3, 3, 1)

    @property
    def widths(self) -> Sequence[int]:
        """The channels at each resolution, of the whole picture first."""
        return self.encoder_block_out_channels

    @model_validator(mode="after")
    def _parts_fit(self) -> Self:
        _check_equal("in_channels, out_channels", self.in_channels, self.out_channels)
        stages = {
            "num_encoder_blocks": self.num_encoder_blocks,
            "num_decoder_blocks": self.num_decoder_blocks,
            "decoder_block_out_channels": self.decoder_block_out_channels,
        }
        for name, numbers in stages.items():
            expected = len(self.encoder_block_out_channels)
            _check_equal(f"the lengths of {name}, encoder_block_out_channels", len(numbers), expected)
        if len({*self.encoder_block_out_channels, *self.decoder_block_out_channels}) > 1:
            raise ValueError("encoder_block_out_channels and decoder_block_out_channels must all be equal")
        return self


BlockType = Literal["ResBlock", "EfficientViTBlock"]
Norm = Literal["rms_norm", "batch_norm"]


class DCArguments(Arguments):
    """AutoencoderDC: the deep compression autoencoder (Chen et al. 2024), 32 times smaller on each side."""

    class_name: Literal["AutoencoderDC"]
    latent_channels: Channels = 32
    attention_head_dim: Width = 32
    encoder_block_types: BlockType | Annotated[tuple[BlockType, ...], Field(max_length=8)] = "ResBlock"
    decoder_block_types: BlockType | Annotated[tuple[BlockType, ...], Field(max_length=8)] = "ResBlock"
    encoder_block_out_channels: Widths = (128, 256, 512, 512, 1024, 1024)
    decoder_block_out_channels: Widths = (128, 256, 512, 512, 1024, 1024)
    encoder_layers_per_block: BlocksOfStages = (2, 2, 2, 3, 3, 3)
    decoder_layers_per_block: BlocksOfStages = (3, 3, 3, 3, 3, 3)
    encoder_qkv_multiscales: Annotated[tuple[Kernels, ...], Field(max_length=8)] = ((), (), (), (5,), (5,), (5,))
    decoder_qkv_multiscales: Annotated[tuple[Kernels, ...], Field(max_length=8)] = ((), (), (), (5,), (5,), (5,))
    upsample_block_type: Literal["pixel_shuffle", "interpolate"] = "pixel_shuffle"
    downsample_block_type: Literal["pixel_unshuffle", "conv"] = "pixel_unshuffle"
    decoder_norm_types: Norm | Annotated[tuple[Norm, ...], Field(max_length=8)] = "rms_norm"
    decoder_act_fns: Activation | Annotated[tuple[Activation, ...], Field(max_length=8)] = "silu"
    encoder_out_shortcut: bool = True
    decoder_in_shortcut: bool = True
    decoder_conv_act_fn: Activation = "relu"

    @property
    def widths(self) -> Sequence[int]:
        """The channels at each resolution, of the whole picture first."""
        both = zip(self.encoder_block_out_channels, self.decoder_block_out_channels, strict=True)
        return [max(pair) for pair in both]

    @property
    def largest_maps(self) -> Sequence[int]:
        """The channels of the largest map at each resolution: blocks with attention expand theirs."""
        kinds = self.encoder_block_types, self.decoder_block_types
        by_stage = zip(*(len(self.widths) * (kind,) if isinstance(kind, str) else kind for kind in kinds), strict=True)
        factors = [_EXPANSION if "EfficientViTBlock" in pair else 1 for pair in by_stage]
        return [channels * factor for channels, factor in zip(super().largest_maps, factors, strict=True)]

    @model_validator(mode="after")
    def _parts_fit(self) -> Self:
        expected = len(self.encoder_block_out_channels)
        for name, value in self:
            is_of_stages = isinstance(value, tuple) and name != "encoder_block_out_channels"
            if is_of_stages:
                _check_equal(f"the lengths of {name}, encoder_block_out_channels", len(value), expected)
        return self


NetworkArguments = Annotated[KLArguments | TinyArguments | VQArguments | DCArguments, Field(discriminator="class_name")]


class DiffusersConfig(PretrainedConfig):
    """An autoencoder of the library diffusers: its class and arguments, and the scaling of its latents.

    `force_upcast` says that the activations overflow in float16: such weights are stored as float32.
    """

    family: Literal["diffusers"] = "diffusers"
    network: NetworkArguments
    force_upcast: bool = False

    def latent_shape_of(self, image_shape: tuple[int, ...]) -> tuple[int, ...]:
        """The shape (D, h, w) of the latent of an image (C, H, W).

        Raises:
            ShapeMismatch: as for other families, or the image is too small for a network that normalises each channel.
        """
        latent_shape = super().latent_shape_of(image_shape)
        self._check_cells(latent_shape, got=image_shape, expected=self.image_shape)
        return latent_shape

    def image_shape_of(self, latent_shape: tuple[int, ...]) -> ImageShape:
        """The shape (C, H, W) of the image of a latent (D, h, w); it raises as `latent_shape_of` does."""
        image_shape = super().image_shape_of(latent_shape)
        self._check_cells(latent_shape, got=latent_shape, expected=self.latent_shape)
        return image_shape

    def fitting_shape(self, height: int, width: int) -> ImageShape:
        """The channels of the model, and each side rounded up to a multiple of `downscale`, with cells enough."""
        channels, fitting_height, fitting_width = super().fitting_shape(height, width)
        if fitting_height * fitting_width < self.network.least_cells * self.downscale**2:
            return channels, fitting_height, fitting_width + self.downscale
        return channels, fitting_height, fitting_width

    def _check_cells(self, latent_shape: Sequence[int], got: Sequence[int], expected: Sequence[int | None]) -> None:
        if prod(latent_shape[1:]) < self.network.least_cells:
            remedy = f"this network needs images larger than {self.downscale}×{self.downscale} pixels"
            raise ShapeMismatch(got, expected, remedy)

    def activation_bytes_of(self, image_shape: ImageShape) -> int:
        """A bound of the memory that a forward pass of one image of that shape needs besides the weights."""
        pixels = prod(image_shape[1:])
        largest = max(channels * pixels // 4**level for level, channels in enumerate(self.network.largest_maps))
        kernel = _KERNEL_CELLS * max(self.network.widths) ** 2
        distances = _DISTANCES * pixels // self.downscale**2 * self.network.embeddings
        return int(_FLOAT32_BYTES * (max(_MAPS * largest, distances) + _KERNELS * kernel))

    @property
    def overflows_in_float16(self) -> bool:
        """Whether the activations of the network are too large for float16: `force_upcast` of the source."""
        return self.force_upcast

    @property
    def is_posterior_a_point(self) -> bool:
        """Whether the encoder gives one latent for each image: all classes but AutoencoderKL."""
        return self.network.class_name != "AutoencoderKL"

    @model_validator(mode="after")
    def _sizes_are_the_networks(self) -> Self:
        network = self.network
        _check_equal("image_shape[0], network.in_channels", self.image_shape[0], network.in_channels)
        _check_equal("latent_shape[0], the network's", self.latent_shape[0], network.channels_of_latents)
        _check_equal("downscale, the reduction of the network", self.downscale, downscale_of(network))
        return self


def downscale_of(network: Arguments) -> int:
    """The number of pixels of a side that become one cell of a latent."""
    return 1 << (len(network.widths) - 1)


def _check_equal(names: str, one: Any, other: Any) -> None:
    if one != other:
        raise ValueError(f"{names} must be equal, but are {one} and {other}")
