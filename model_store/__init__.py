"""What a stored model is, and where it is kept: a card that describes it and tensors that cannot run code."""

from .card import Card, DataSummary, LatentSummary, Metric, ScoreQuantiles, TrainingSummary, WeightsSummary
from .errors import (
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
