"""DiffusersAutoencoder: a network of the library diffusers, with the members that every family has.

The library reads images in [-1, 1]; ours are in [0, 1].
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import CannotBuild, MissingExtra
from ..vae.device import dtype_of
from ..vae.family import Direction
from ..vae.likelihoods import PointImage
from ..vae.posterior import DiagonalGaussian, Point
from ..vae.priors import NoPrior, Prior
from .config import DiffusersConfig

_MODULES: Mapping[Direction, tuple[str, ...]] = {
    "encode": ("encoder", "quant_conv"),
    "decode": ("decoder", "post_quant_conv", "quantize"),
}
# for each class, the attribute of an encoder's output that has the latents
_LATENTS = {"AutoencoderTiny": "latents", "VQModel": "latents", "AutoencoderDC": "latent"}


class DiffusersAutoencoder(nn.Module):
    """An autoencoder of the library: AutoencoderKL gives a distribution, the other classes give a point.

    The weights can have any precision; inputs and outputs are float32.

    Raises:
        MissingExtra: the library is not installed.
        CannotBuild: the library refuses the arguments.
    """

    def __init__(self, config: DiffusersConfig) -> None:
        super().__init__()
        self.config = config
        self.prior, self.samplers = NoPrior(), dict[str, Prior]()
        self.network = _network(config)

    def encode(self, images: Tensor) -> DiagonalGaussian | Point:
        """The posterior or the point (B, D, h, w) of float images (B, C, H, W) in [0, 1].

        The log-variance is clamped as the library does, to [-30, 20].
        """
        encoded = self.network.encode((2 * images - 1).to(dtype_of(self.network.encoder)))
        if self.config.network.class_name == "AutoencoderKL":
            return DiagonalGaussian(encoded.latent_dist.mean.float(), encoded.latent_dist.logvar.float())
        return Point(getattr(encoded, _LATENTS[self.config.network.class_name]).float())

    def decode(self, latents: Tensor) -> PointImage:
        """Images given latents (B, D, h, w). VQModel first replaces each latent by the nearest embedding."""
        if self.config.network.class_name == "VQModel":
            embeddings = self._nearest_embeddings(latents).to(dtype_of(self.network.decoder))
            decoded = self.network.decode(embeddings, force_not_quantize=True)
        else:
            decoded = self.network.decode(latents.to(dtype_of(self.network.decoder)))
        return PointImage((decoded.sample.float() + 1) / 2)

    def _nearest_embeddings(self, latents: Tensor) -> Tensor:
        """The embedding nearest to each latent, as `VectorQuantizer` of the library finds it, but always in float32.

        torch 2.13 computes no distances of bfloat16 on a CPU; and rounded latents could have another neighbour.
        """
        table = self.network.quantize.embedding.weight.float()
        cells = latents.movedim(1, -1)
        nearest = torch.cdist(cells.flatten(0, -2), table).argmin(1)
        found: Tensor = table[nearest]
        return found.view_as(cells).movedim(-1, 1)

    def modules_of(self, direction: Direction) -> list[nn.Module]:
        """The modules that compute a direction."""
        modules = dict(self.network.named_children())
        return [modules[name] for name in _MODULES[direction] if name in modules]

    def simplify(self, *, folds_doublings: bool) -> None:
        """Replace blocks by others that give the same numbers in less time and memory; doublings but for rounding."""
        # imported here since it needs the library, an extra
        from .in_place import compute_in_place  # noqa: PLC0415

        compute_in_place(self.network, folds_doublings=folds_doublings)

    @property
    def device(self) -> torch.device:
        """The device that has the weights."""
        weight: nn.Parameter = next(self.network.parameters())
        return weight.device


def _network(config: DiffusersConfig) -> Any:
    name = config.network.class_name
    try:
        import diffusers  # noqa: PLC0415  # an extra, which takes 1.5 s to import
    except ImportError as error:
        raise MissingExtra(f"A model of the class {name}", "diffusers", "diffusers") from error
    try:
        return getattr(diffusers, name)(**config.network.model_dump(exclude={"class_name"}))
    except Exception as error:  # the library raises many kinds of errors for arguments that do not fit each other
        raise CannotBuild(name, f"{type(error).__name__}: {error}") from error
