"""The table of families: the record that describes a network in a card, and the class that builds the network.

A card names the family in `model.family`; without that field the family is `vae`. docs/how-to/add-a-family.md tells how
to add a family.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Annotated, Any, overload

from pydantic import Discriminator, Tag

from .diffusers import DiffusersAutoencoder, DiffusersConfig
from .taesd import TAESD, TAESDConfig
from .vae import VAE, VAEConfig
from .vae.family import FamilyConfig


def family_of(model: Any) -> str:
    """The family that a card or a record names; cards of the first family do not name it."""
    return str(model.get("family", "vae")) if isinstance(model, dict) else str(getattr(model, "family", "vae"))


ModelConfig = Annotated[
    Annotated[VAEConfig, Tag("vae")]
    | Annotated[TAESDConfig, Tag("taesd")]
    | Annotated[DiffusersConfig, Tag("diffusers")],
    Discriminator(family_of),
]
Network = VAE | TAESD | DiffusersAutoencoder

FAMILIES: Mapping[type[FamilyConfig], Callable[[Any], Network]] = {
    VAEConfig: VAE,
    TAESDConfig: TAESD,
    DiffusersConfig: DiffusersAutoencoder,
}


@overload
def build(config: VAEConfig) -> VAE: ...
@overload
def build(config: FamilyConfig) -> Network: ...
def build(config: FamilyConfig) -> Network:
    """The network that a record describes, with the weights that training begins with."""
    return FAMILIES[type(config)](config)
