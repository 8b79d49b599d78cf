"""Our family of models: networks, their mathematics, and the records that describe them in a card.

Pure torch: no files, no HTTP, no clock. This package imports nothing else of the project. A name of the package is
imported when it is first used: torch takes a second, and a program that only needs records or sentences goes without.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .config import (
        BernoulliConfig,
        ConvConfig,
        DiscretisedLogisticConfig,
        FlowConfig,
        GaussianConfig,
        LogisticMixtureConfig,
        MixtureConfig,
        MLPConfig,
        ShortcutConvConfig,
        StandardNormalConfig,
        UniformConfig,
        VAEConfig,
    )
    from .elbo import Bound, Estimate, bits_per_dimension
    from .flow import Flow
    from .likelihoods import Bernoulli, DiscretisedLogistic, Gaussian, LogisticMixture
    from .mixture import Mixture
    from .model import VAE, NoPosterior
    from .posterior import DiagonalGaussian, Point
    from .priors import Prior, StandardNormal, Uniform
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
    "Flow",
    "FlowConfig",
    "Gaussian",
    "GaussianConfig",
    "LogisticMixture",
    "LogisticMixtureConfig",
    "MLPConfig",
    "Mixture",
    "MixtureConfig",
    "NoPosterior",
    "Point",
    "Prior",
    "Record",
    "ShortcutConvConfig",
    "StandardNormal",
    "StandardNormalConfig",
    "Uniform",
    "UniformConfig",
    "VAEConfig",
    "bits_per_dimension",
]

_MODULES = ("record", "config", "likelihoods", "posterior", "priors", "flow", "mixture", "elbo", "model")


def __getattr__(name: str) -> Any:
    """The class or function with a name of `__all__`, from the module that has it (PEP 562)."""
    if name in __all__:
        for module in _MODULES:
            members = vars(import_module(f".{module}", __name__))
            if name in members:
                return globals().setdefault(name, members[name])
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
