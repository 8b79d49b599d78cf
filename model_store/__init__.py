"""Stored models: the card that describes a network, the tensors of the network, and the store that keeps both."""

from .card import Card, DataSummary, LatentSummary, Metric, ScoreQuantiles, TrainingSummary, WeightsSummary
from .errors import (
    CannotChooseDefault,
    CorruptWeights,
    InvalidName,
    ModelNotFound,
    NoDefault,
    StoreError,
    StoreNotFound,
    UnknownFormat,
    UnusableDefault,
    VersionExists,
)
from .store import DEFAULT_ROOT, Store, StoredModel, store_folder
from .vae import VAE, VAEConfig
from .version import ModelVersion, newest, parse_reference

__all__ = [
    "DEFAULT_ROOT",
    "VAE",
    "CannotChooseDefault",
    "Card",
    "CorruptWeights",
    "DataSummary",
    "InvalidName",
    "LatentSummary",
    "Metric",
    "ModelNotFound",
    "ModelVersion",
    "NoDefault",
    "ScoreQuantiles",
    "Store",
    "StoreError",
    "StoreNotFound",
    "StoredModel",
    "TrainingSummary",
    "UnknownFormat",
    "UnusableDefault",
    "VAEConfig",
    "VersionExists",
    "WeightsSummary",
    "newest",
    "parse_reference",
    "store_folder",
]
