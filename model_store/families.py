"""The table of families: the record that describes a network in a card, and what builds the network from it.

A card names the family in `model.family`; without that field it is `vae`. How to add one: docs/how-to/add-a-family.md.
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
    """The network that a record describes, with weights as training begins with them."""
    return FAMILIES[type(config)](config)
