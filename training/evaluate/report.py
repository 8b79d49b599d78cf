"""The numbers of a model for its card, each with the protocol by which it was measured."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from pydantic import ValidationError
from torch import Tensor

from model_store import VAE, LatentSummary, Metric, ScoreQuantiles
from model_store.card import MOST_LATENT_VALUES
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
from .statistics import scored

IMPORTANCE_SAMPLES = 50


@dataclass(frozen=True)
class Report:
    """The measured numbers, and figures by file name.

    Without an encoder `latents` is None; without a posterior `scores` is None.
    """

    metrics: list[Metric]
    latents: LatentSummary | None = None
    scores: ScoreQuantiles | None = None
    warnings: Sequence[str] = ()
    files: Mapping[str, bytes] = field(default_factory=dict)


def report(model: VAE, dataset: Dataset, importance_samples: int = IMPORTANCE_SAMPLES) -> Report:
    """Measure a model on the test images; `importance_samples` are the draws for the importance-weighted bound.

    Raises:
        NotFinite: a number of the model is infinite or NaN.
    """
    test, tested = dataset.test, tested_images(dataset)
    can = model.config.can
    try:
        if "encode" not in can:
            draws = f"log of the mean of {EVIDENCE_DRAWS} prior draws' p(x|z), the same for all images"
            nats = evidence(model, test).mean().item()
            protocol = _protocol(model, tested, draws)
            known = Metric(name="log_evidence_nats", value=nats, unit="nats", protocol=protocol)
            suspicious = warnings(model, dataset, known.name, nats)
            return Report([known, *novelty_metrics(model, dataset)], warnings=suspicious)
        use = latent_use(model, test)
        latents = use.summary() if len(use.mean) <= MOST_LATENT_VALUES else None
        errors = error_metrics(squared_errors(model, test), tested)
        if "score" not in can:
            nats = point_likelihood(model, test).mean().item()
            metrics = [*errors, *(novelty_metrics(model, dataset) if "sample" in can else [])]
            return Report(metrics, latents, warnings=warnings(model, dataset, "log p(x|z) in nats", nats))
        once, often = score(model, test), score(model, test, importance_samples)
        metrics = [*bound_metrics(model, once, often, tested), *errors, *latent_metrics(model, use, tested)]
        nats, kl_nats = once.elbo_nats.mean().item(), once.kl_nats.mean().item()
        suspicious = warnings(model, dataset, "elbo_nats", nats, kl_nats)
        quantiles = scored(model, test, latents).quantiles(tested)
        return Report([*metrics, *novelty_metrics(model, dataset)], latents, quantiles, suspicious)
    except ValidationError as error:  # a record of the card refuses a number that is not finite
        raise NotFinite(len(test)) from error


def tested_images(dataset: Dataset) -> str:
    """Words for the images that a model is measured on; the card does not name their place elsewhere if it has no run.

    Images of another place than the training's have the name of the place.
    """
    place = "" if len(dataset.train) else f" of {dataset.name}"
    return f"{_images(len(dataset.test), 'test')}{place}"


def bound_metrics(model: VAE, once: Bound, often: Bound, tested: str) -> list[Metric]:
    """The ELBO and its two terms from one draw for each image, and the importance-weighted bound from many draws.

    A likelihood of 8-bit values gives bits per dimension too. `tested` names the images in the protocols.
    """
    protocol = _protocol(model, tested, "one posterior draw each")
    means = {name: getattr(once, name).mean().item() for name in ("elbo_nats", "log_likelihood_nats", "kl_nats")}
    bounds = [Metric(name=name, value=value, unit="nats", protocol=protocol) for name, value in means.items()]
    if model.config.likelihood.is_8_bit:
        bits = bits_per_dimension(once.elbo_nats.mean(), model.config.image_shape).item()
        of_elbo = f"of the ELBO; {protocol}"
        bounds.append(Metric(name="bits_per_dimension", value=bits, unit="bits", protocol=of_elbo))
    value = often.importance_weighted_nats.mean().item()
    protocol = _protocol(model, tested, f"K = {often.draws} posterior draws each")
    return [*bounds, Metric(name="importance_weighted_nats", value=value, unit="nats", protocol=protocol)]


def error_metrics(errors: Tensor, tested: str) -> list[Metric]:
    """The mean squared error of the reconstructions, from each image's error (N,), and the same as PSNR."""
    protocol = f"{tested} through their latents' mean, grey values in [0, 1]"
    mse = errors.mean().item()
    return [
        Metric(name="mse", value=mse, unit="1", protocol=f"mean of {protocol}"),
        Metric(name="psnr_db", value=psnr_db(max(mse, 1e-12)), unit="dB", protocol=f"of the mean mse; {protocol}"),
    ]


def latent_metrics(model: VAE, use: LatentUse, tested: str) -> list[Metric]:
    """The number of active latent dimensions, and the distance of the aggregate posterior from the prior."""
    active = f"of {len(use.mean)} latent dimensions those whose mean has a variance above {ACTIVE_VARIANCE}"
    aggregate = "KL to N(0, I) of a diagonal Gaussian with the aggregate posterior's mean and variance"
    over = f"over {tested}, read as grey"
    units = Metric(name="active_units", value=use.active, unit="dimensions", protocol=f"{active}, {over}")
    if model.prior.is_learned:  # N(0, I) is not the prior
        return [units]
    nats = use.aggregate_kl_nats
    return [units, Metric(name="aggregate_kl_nats", value=nats, unit="nats", protocol=f"{aggregate}, {over}")]


def novelty_metrics(model: VAE, dataset: Dataset) -> list[Metric]:
    """The distances of samples and of test images to the training images; empty without training images."""
    if not len(dataset.train):
        return []
    found = novelty(model, dataset.train, dataset.test)
    nearest = f"the nearest of {_images(len(dataset.train), 'training')}"
    protocol = f"median Euclidean distance to {nearest}, pixels in [0, 1], of"
    drawn = f"{protocol} {NOVELTY_IMAGES} samples (their mean images), seed 0"
    held_out = f"{protocol} the first {_images(min(NOVELTY_IMAGES, len(dataset.test)), 'test')}"
    return [
        Metric(name="sample_distance", value=found.samples, unit="1", protocol=drawn),
        Metric(name="test_distance", value=found.test, unit="1", protocol=held_out),
    ]


def _protocol(model: VAE, tested: str, draws: str) -> str:
    return f"mean of {tested}, {describe_protocol(model.config)}, {draws}, seed {EVALUATION_SEED}"


def _images(number: int, split: str) -> str:
    return f"{number} {split} image{'' if number == 1 else 's'}"  # without commas, as in the cards that ship
