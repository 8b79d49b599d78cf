"""The numbers of a model for its card, each with the protocol by which it was measured."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from pydantic import ValidationError
from torch import Tensor

from model_store import VAE, LatentSummary, Metric, ScoreQuantiles
from model_store.vae import Bound, bits_per_dimension
from model_store.vae.pixels import psnr_db
from model_store.vae.scoring_protocol import describe_protocol

from ..data import Dataset
from ..errors import NotFinite
from .bounds import EVALUATION_SEED, EVIDENCE_DRAWS, evidence, point_likelihood, score, squared_errors
from .latents import ACTIVE_VARIANCE, LatentUse, latent_use
from .novelty import IMAGES as NOVELTY_IMAGES
from .novelty import novelty
from .quality import warnings

IMPORTANCE_SAMPLES = 50

_MAX_LATENT_VALUES = 4096  # more would make the card unreadable


@dataclass(frozen=True)
class Report:
    """The measured numbers. Without an encoder `latents` is None; without a posterior `scores` is None."""

    metrics: list[Metric]
    latents: LatentSummary | None = None
    scores: ScoreQuantiles | None = None
    warnings: Sequence[str] = ()


def report(model: VAE, dataset: Dataset, importance_samples: int = IMPORTANCE_SAMPLES) -> Report:
    """Measure a model on the test images; `importance_samples` are the draws for the importance-weighted bound.

    Raises:
        NotFinite: a number of the model is not one.
    """
    try:
        return _measure(model, dataset, importance_samples)
    except ValidationError as error:
        raise NotFinite(len(dataset.test)) from error


def _measure(model: VAE, dataset: Dataset, importance_samples: int) -> Report:
    test = dataset.test
    can = model.config.can
    if "encode" not in can:
        known = _evidence(model, test)
        suspicious = warnings(model, dataset, known.name, known.value)
        return Report([known, *_novelty(model, dataset)], warnings=suspicious)
    errors, use = squared_errors(model, test), latent_use(model, test)
    latents = use.summary() if len(use.mean) <= _MAX_LATENT_VALUES else None
    if "score" not in can:
        nats = point_likelihood(model, test).mean().item()
        return Report(_errors(errors), latents, warnings=warnings(model, dataset, "log p(x|z) in nats", nats))
    once, scores = score(model, test), score(model, test, importance_samples)
    metrics = [*_bounds(model, once), *_tighter(model, scores), *_errors(errors), *_use(use, len(test))]
    nats, kl_nats = once.elbo_nats.mean().item(), once.kl_nats.mean().item()
    suspicious = warnings(model, dataset, "elbo_nats", nats, kl_nats)
    return Report([*metrics, *_novelty(model, dataset)], latents, _quantiles(model, once), suspicious)


def _bounds(model: VAE, bound: Bound) -> list[Metric]:
    protocol = _protocol(model, len(bound.kl_nats), "one posterior draw each")
    means = {name: getattr(bound, name).mean().item() for name in ("elbo_nats", "log_likelihood_nats", "kl_nats")}
    bounds = [Metric(name=name, value=value, unit="nats", protocol=protocol) for name, value in means.items()]
    if not model.config.likelihood.is_8_bit:
        return bounds
    bits = bits_per_dimension(bound.elbo_nats.mean(), model.config.image_shape).item()
    return [*bounds, Metric(name="bits_per_dimension", value=bits, unit="bits", protocol=f"of the ELBO; {protocol}")]


def _tighter(model: VAE, bound: Bound) -> list[Metric]:
    protocol = _protocol(model, len(bound.kl_nats), f"K = {bound.draws} posterior draws each")
    value = bound.importance_weighted_nats.mean().item()
    return [Metric(name="importance_weighted_nats", value=value, unit="nats", protocol=protocol)]


def _evidence(model: VAE, test: Tensor) -> Metric:
    value = evidence(model, test).mean().item()
    draws = f"log of the mean of {EVIDENCE_DRAWS} prior draws' p(x|z), the same for all images"
    return Metric(name="log_evidence_nats", value=value, unit="nats", protocol=_protocol(model, len(test), draws))


def _errors(errors: Tensor) -> list[Metric]:
    protocol = f"{len(errors)} test images through their latents' mean, grey values in [0, 1]"
    mse = errors.mean().item()
    return [
        Metric(name="mse", value=mse, unit="1", protocol=f"mean of {protocol}"),
        Metric(name="psnr_db", value=psnr_db(max(mse, 1e-12)), unit="dB", protocol=f"of the mean mse; {protocol}"),
    ]


def _use(use: LatentUse, images: int) -> list[Metric]:
    active = f"of {len(use.mean)} latent dimensions those whose mean has a variance above {ACTIVE_VARIANCE}"
    aggregate = "KL to N(0, I) of a diagonal Gaussian with the aggregate posterior's mean and variance"
    over = f"over {images} test images, read as grey"
    return [
        Metric(name="active_units", value=use.active, unit="dimensions", protocol=f"{active}, {over}"),
        Metric(name="aggregate_kl_nats", value=use.aggregate_kl_nats, unit="nats", protocol=f"{aggregate}, {over}"),
    ]


def _novelty(model: VAE, dataset: Dataset) -> list[Metric]:
    if not len(dataset.train):
        return []
    found = novelty(model, dataset.train, dataset.test)
    protocol = f"median Euclidean distance to the nearest of {len(dataset.train)} training images, pixels in [0, 1], of"
    drawn = f"{protocol} {NOVELTY_IMAGES} samples (their mean images), seed 0"
    held_out = f"{protocol} the first {min(NOVELTY_IMAGES, len(dataset.test))} test images"
    return [
        Metric(name="sample_distance", value=found.samples, unit="1", protocol=drawn),
        Metric(name="test_distance", value=found.test, unit="1", protocol=held_out),
    ]


def _quantiles(model: VAE, bound: Bound) -> ScoreQuantiles:
    quantiles = torch.quantile(bound.elbo_nats, torch.linspace(0, 1, 101, dtype=torch.float64))
    return ScoreQuantiles(
        elbo_nats=tuple(round(value, 3) for value in quantiles.tolist()),
        protocol=_protocol(model, len(bound.kl_nats), "one posterior draw each", mean=False),
    )


def _protocol(model: VAE, images: int, draws: str, *, mean: bool = True) -> str:
    judged = describe_protocol(model.config)
    return f"{'mean of ' if mean else ''}{images} test images, {judged}, {draws}, seed {EVALUATION_SEED}"
