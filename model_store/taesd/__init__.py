"""The tiny autoencoders for latents of diffusion models: TAESD and its relatives (Ollin Boer Bohan, MIT licence).

Pure torch: no files, no HTTP.
"""

from .config import TAESDConfig
from .model import TAESD

__all__ = ["TAESD", "TAESDConfig"]
