"""Our family of models: networks, their mathematics, and the records that describe them in a card.

Pure torch: no files, no HTTP, no clock. This package imports nothing else of the project.
"""

from .config import (
    BernoulliConfig,
    ConvConfig,
    DiscretisedLogisticConfig,
    GaussianConfig,
    MLPConfig,
    StandardNormalConfig,
    UniformConfig,
    VAEConfig,
)
from .elbo import Bound, Estimate, bits_per_dimension
from .likelihoods import Bernoulli, DiscretisedLogistic, Gaussian
from .model import VAE, NoPosterior
from .posterior import DiagonalGaussian, Point
from .priors import StandardNormal, Uniform
from .record import Record

__all__ = [
    "VAE",
    "Bernoulli",
    "BernoulliConfig",
    "Bound",
    "ConvConfig",
    "DiagonalGaussian",
    "DiscretisedLogistic",
    "DiscretisedLogisticConfig",
    "Estimate",
    "Gaussian",
    "GaussianConfig",
    "MLPConfig",
    "NoPosterior",
    "Point",
    "Record",
    "StandardNormal",
    "StandardNormalConfig",
    "Uniform",
    "UniformConfig",
    "VAEConfig",
    "bits_per_dimension",
]
