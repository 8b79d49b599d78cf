"""Stored models: the card that describes a network, the tensors of the network, and the store that keeps both.

A name of the package is imported when it is first used, as in `model_store.vae`: pictures are read without torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .aliases import Aliases
    from .calibration import Calibration
    from .card import (
        Card,
        DataSummary,
        FitSummary,
        LatentSummary,
        Metric,
        Source,
        SourceFile,
        TrainingSummary,
        WeightsSummary,
    )
    from .errors import (
        AliasNotFound,
        CannotBuild,
        CannotChooseDefault,
        CannotDelete,
        CannotImport,
        CorruptWeights,
        InvalidAlias,
        InvalidName,
        MissingExtra,
        ModelNotFound,
        NoDefault,
        NoEarlierVersion,
        NoNumberLeft,
        OtherFamily,
        StoreError,
        StoreNotFound,
        TooManyAliases,
        TooManyCalibrations,
        UnknownFormat,
        UnusableAliases,
        UnusableCalibration,
        UnusableDefault,
        UnusableNumber,
        VersionExists,
    )
    from .importing.state_dict import publish_state_dict
    from .score_statistics import ScoreQuantiles
    from .store import DEFAULT_ROOT, Store, StoredModel, store_folder
    from .vae import VAE, VAEConfig
    from .version import ModelVersion, newest, parse_reference

__all__ = [
    "DEFAULT_ROOT",
    "VAE",
    "AliasNotFound",
    "Aliases",
    "Calibration",
    "CannotBuild",
    "CannotChooseDefault",
    "CannotDelete",
    "CannotImport",
    "Card",
    "CorruptWeights",
    "DataSummary",
    "FitSummary",
    "InvalidAlias",
    "InvalidName",
    "LatentSummary",
    "Metric",
    "MissingExtra",
    "ModelNotFound",
    "ModelVersion",
    "NoDefault",
    "NoEarlierVersion",
    "NoNumberLeft",
    "OtherFamily",
    "ScoreQuantiles",
    "Source",
    "SourceFile",
    "Store",
    "StoreError",
    "StoreNotFound",
    "StoredModel",
    "TooManyAliases",
    "TooManyCalibrations",
    "TrainingSummary",
    "UnknownFormat",
    "UnusableAliases",
    "UnusableCalibration",
    "UnusableDefault",
    "UnusableNumber",
    "VAEConfig",
    "VersionExists",
    "WeightsSummary",
    "newest",
    "parse_reference",
    "publish_state_dict",
    "store_folder",
]

_MODULES = (
    "errors",
    "version",
    "aliases",
    "card",
    "calibration",
    "score_statistics",
    "store",
    "vae",
    "importing.state_dict",
)


def __getattr__(name: str) -> Any:
    """The class or function with a name of `__all__`, from the module that has it (PEP 562)."""
    if name in __all__:
        for module in _MODULES:
            found = import_module(f".{module}", __name__)
            if name in (getattr(found, "__all__", None) or vars(found)):
                return globals().setdefault(name, getattr(found, name))
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
