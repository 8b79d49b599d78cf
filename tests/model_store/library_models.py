"""Small models of the library diffusers with random weights, one for each class, and their settings."""

from typing import Any

import diffusers
import torch

from model_store.diffusers import DiffusersConfig

_DOWN, _UP, _WIDTHS = ["DownEncoderBlock2D"] * 4, ["UpDecoderBlock2D"] * 4, [8, 8, 8, 8]
_BLOCKS = {
    "down_block_types": _DOWN,
    "up_block_types": _UP,
    "block_out_channels": _WIDTHS,
    "norm_num_groups": 4,
    "layers_per_block": 1,
}
_DC_TYPES, _SCALES = ["ResBlock", "ResBlock", "EfficientViTBlock", "EfficientViTBlock"], [[], [], [5], [5]]

SETTINGS: dict[str, dict[str, Any]] = {
    "AutoencoderKL": {**_BLOCKS, "latent_channels": 4},
    "AutoencoderTiny": {"encoder_block_out_channels": _WIDTHS, "decoder_block_out_channels": _WIDTHS},
    "VQModel": {**_BLOCKS, "latent_channels": 3, "num_vq_embeddings": 16},
    "AutoencoderDC": {
        "latent_channels": 4,
        "attention_head_dim": 4,
        "encoder_block_types": _DC_TYPES,
        "decoder_block_types": _DC_TYPES,
        "encoder_block_out_channels": _WIDTHS,
        "decoder_block_out_channels": _WIDTHS,
        "encoder_layers_per_block": [1, 1, 1, 1],
        "decoder_layers_per_block": [1, 1, 1, 1],
        "encoder_qkv_multiscales": _SCALES,
        "decoder_qkv_multiscales": _SCALES,
    },
}


def library_model(name: str, seed: int = 0, **settings: Any) -> Any:
    """A model of the class with that name, for inference; further settings replace the ones in `SETTINGS`."""
    torch.manual_seed(seed)
    return getattr(diffusers, name)(**{**SETTINGS[name], **settings}).eval()


def record_fields(name: str, **settings: Any) -> dict[str, Any]:
    """The fields of the record for the class with that name, as JSON has them."""
    return {
        "image_shape": [3, None, None],
        "latent_shape": [3 if name == "VQModel" else 4, None, None],
        "downscale": 8,
        "latent_space": "any",
        "network": {"class_name": name, **SETTINGS[name], **settings},
    }


def record(name: str) -> DiffusersConfig:
    """The record of `library_model(name)`."""
    return DiffusersConfig.model_validate(record_fields(name), strict=False)
