"""The model itself: networks and their mathematics, the language in which cards are written.

Pure torch: no files, no HTTP, no clock. It imports nothing of the rest of the project.
"""

from .config import BernoulliConfig, ConvConfig, MLPConfig, StandardNormalConfig, VAEConfig
from .elbo import Bound, bound
from .likelihoods import Bernoulli
from .model import VAE
from .posterior import DiagonalGaussian
from .priors import StandardNormal
from .record import Record

__all__ = [
    "VAE",
    "Bernoulli",
    "BernoulliConfig",
    "Bound",
    "ConvConfig",
    "DiagonalGaussian",
    "MLPConfig",
    "Record",
    "StandardNormal",
    "StandardNormalConfig",
    "VAEConfig",
    "bound",
]
