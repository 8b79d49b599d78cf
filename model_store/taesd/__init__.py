"""The tiny autoencoders for the latents of diffusion models (TAESD and its relatives, by Ollin Boer Bohan, MIT licence).

Pure torch: no files, no HTTP.
"""

from .config import TAESDConfig
from .model import TAESD

__all__ = ["TAESD", "TAESDConfig"]
