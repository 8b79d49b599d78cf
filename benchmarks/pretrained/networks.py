"""The networks that are compared, from the files that people have, and computed as their documentation shows.

TAEF2 is a tiny autoencoder for which diffusers has no class: its authors' table of layers is computed.
The other is an `AutoencoderKL` of the size of Stable Diffusion's, with random weights.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import torch
from diffusers import AutoencoderKL
from torch import Tensor

from . import taef2

KL, TAEF2 = "kl", "taef2"
WIDTHS, QUICK_WIDTHS = (128, 256, 512, 512), (32, 32)  # of Stable Diffusion's, and of a run that tries the benchmark


class Functions(NamedTuple):
    """Latents float32 of images (1, 3, H, W) in [0, 1], and images of latents."""

    encode: Callable[[Tensor], Tensor]
    decode: Callable[[Tensor], Tensor]


def save_kl(folder: Path, *, is_quick: bool) -> None:
    """Save an `AutoencoderKL` with random weights, as diffusers saves it."""
    widths = QUICK_WIDTHS if is_quick else WIDTHS
    torch.manual_seed(0)
    AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * len(widths),
        up_block_types=("UpDecoderBlock2D",) * len(widths),
        block_out_channels=widths,
        layers_per_block=2,
        latent_channels=4,
        norm_num_groups=32,
    ).save_pretrained(folder)


def put_into(store: Path, name: str, source: Path, photos: Path) -> None:
    """Import a source with the command that a user calls."""
    command = ["import", str(source), "--name", name, "--store", str(store), "--pictures", str(photos)]
    subprocess.run([sys.executable, "-m", "model_store", *command], check=True, stdout=subprocess.DEVNULL)


@torch.inference_mode()
def load(name: str, source: Path) -> Functions:
    """A network in float32: through diffusers, but for TAEF2."""
    if name == TAEF2:
        halves = taef2.read(source)
        return Functions(halves.encoder, lambda latents: halves.decoder(latents).clamp(0, 1))
    vae = AutoencoderKL.from_pretrained(source).eval()
    return Functions(
        lambda images: vae.encode(images * 2 - 1).latent_dist.mode(),
        lambda latents: (vae.decode(latents).sample / 2 + 0.5).clamp(0, 1),
    )
