"""Autoencoders of the library diffusers (Hugging Face), computed by the library itself.

The library is an extra, `latentd[diffusers]`: only `model.py` knows it, and imports it when a network is built.
"""

from .config import DiffusersConfig
from .model import DiffusersAutoencoder

__all__ = ["DiffusersAutoencoder", "DiffusersConfig"]
