"""The networks: A is the model `mnist` that ships, B is `photo` with random weights (speed does not depend on them)."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import cast

import torch
from torch import Tensor, nn

from model_store import DEFAULT_ROOT, VAE, Store, VAEConfig
from model_store.vae import ConvConfig
from model_store.vae.noise import standard_normal
from model_store.vae.pixels import to_images

from .pictures import photos

SEED = 0
DETAIL = 0.1  # standard deviation of the logits of a pixel: a sample's PNG is as large as a photo's
LAYERS = (nn.Conv2d, nn.ConvTranspose2d, nn.Linear)
MNIST, PHOTO = "mnist", "photo"
SHIPPED_VERSION = "2"  # a fixed version, so that later ones do not change the measurement
WIDTHS, HIDDEN, LATENT = (32, 64, 128, 256, 256), 256, 128
SIDES = {PHOTO: 128} | {f"square-{side}": side for side in (32, 64, 256, 512)}  # pixels; the squares are for `growth`


def publish(root: Path, name: str) -> VAE:
    """Write a store with one network alone, so that a server has nothing else to load. Return the network."""
    store = Store(root)
    if name == MNIST:
        shutil.copytree(DEFAULT_ROOT / MNIST / SHIPPED_VERSION, root / MNIST / "1")
    else:
        store.publish(name, network(SIDES[name]))
    return store.load(store.resolve(name)).vae.eval()


def network(side: int) -> VAE:
    """Five convolutions of stride 2 and their mirror, 3×side×side, with weights made by the seed."""
    torch.manual_seed(SEED)
    conv = ConvConfig(widths=WIDTHS, blocks=0, hidden=HIDDEN)
    return _lively(VAE(VAEConfig(image_shape=(3, side, side), latent_shape=(LATENT,), network=conv)).eval())


@torch.no_grad()
def _lively(model: VAE) -> VAE:
    """The model with random weights so large that images differ in their latents, and latents in their images.

    A fresh network says nearly the same of everything: its latents would agree with any others, and its samples would
    be grey squares, which a PNG holds in a few bytes. These make PNGs of about 30 kB, as a photo of that size does.
    """
    layers = [module for module in model.modules() if isinstance(module, LAYERS)]
    for layer in layers:
        nn.init.kaiming_normal_(layer.weight)
        nn.init.zeros_(cast(Tensor, layer.bias))
    _spread(model.encoder, to_images(photos(model.config.image_shape, 8)), 1.0)
    _spread(model.decoder, standard_normal(SEED, 8, model.config.latent_shape), DETAIL)
    return model


def _spread(half: nn.Module | None, inputs: Tensor, wanted: float) -> None:
    """Scale a half's last layer, so that over the inputs its outputs have the wanted standard deviation."""
    if half is None:
        return
    *_, last = (module for module in half.modules() if isinstance(module, LAYERS))
    last.weight.mul_(wanted / half(inputs).std(0).mean())
