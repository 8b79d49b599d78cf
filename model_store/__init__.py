"""What a stored model is, and where it is kept: a card that describes it and tensors that cannot run code."""

from .card import Card, DataSummary, LatentSummary, Metric, ScoreQuantiles, TrainingSummary, WeightsSummary
from .errors import (
    CorruptWeights,
    InvalidName,
    ModelNotFound,
    StoreError,
    StoreNotFound,
    UnknownFormat,
    VersionExists,
)
from .store import DEFAULT_ROOT, Store, StoredModel, store_folder
from .vae import VAE, VAEConfig
from .version import ModelVersion, parse_reference

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
    "ScoreQuantiles",
    "Store",
    "StoreError",
    "StoreNotFound",
    "StoredModel",
    "TrainingSummary",
    "UnknownFormat",
    "VAEConfig",
    "VersionExists",
    "WeightsSummary",
    "parse_reference",
    "store_folder",
]
