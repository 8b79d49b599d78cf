"""The table of families: the record that describes a network in a card, and the class that builds the network.

A card names the family in `model.family`; without that field the family is `vae`. docs/how-to/add-a-family.md tells how
to add a family.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from .vae import VAE, VAEConfig
from .vae.family import FamilyConfig

# with a second family a union, which pydantic tells apart by `family`
ModelConfig = VAEConfig
Network = VAE

FAMILIES: Mapping[type[FamilyConfig], Callable[[ModelConfig], Network]] = {VAEConfig: VAE}


def build(config: ModelConfig) -> Network:
    """The network that a record describes, with the weights that training begins with."""
    return FAMILIES[type(config)](config)
