"""The last step of a run: measure it on the test images, and publish a version with its card and its figures."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
from contextlib import suppress
from pathlib import Path

import torch

from model_store import ModelVersion, Store, StoreError, StoreNotFound, TrainingSummary, UnknownFormat
from model_store.weights import to_bytes

from .curves import curves
from .data import Dataset
from .devices import device_name
from .errors import CannotPublish
from .evaluate.figures import figures
from .evaluate.report import report
from .loop import Run


def prepare(store: Store, name: str) -> None:
    """Check before any work that a version can be published into the store, and make its folders.

    Raises:
        CannotPublish: the store cannot be written.
    """
    try:
        store.prepare(name)
    except OSError as error:
        raise CannotPublish(store.root, error) from error


def publish(run: Run, dataset: Dataset, store: Store, *, commit: str | None, name: str | None) -> ModelVersion:
    """Measure a finished run on its test images, and publish it into the store with its card and its figures.

    A run with a `name` is published once, even by two processes that resume it at the same time.

    Raises:
        CannotPublish: the store cannot be written.
        NotFinite: a measured number is not finite.
    """
    model = run.averaged.eval()
    found = report(model, dataset)
    model = model.cpu()
    files = {"curves.png": curves(run.history, run.best_epoch, run.measure), **figures(model, dataset.test)}
    try:
        return store.publish(
            run.recipe.name,
            model,
            training=training_summary(run, dataset, commit),
            metrics=found.metrics,
            latents=found.latents,
            scores=found.scores,
            warnings=found.warnings,
            files=files,
            run=name,
        )
    except (StoreError, OSError) as error:
        raise CannotPublish(store.root, error) from error


def published(run: Run, store: Store, name: str | None) -> ModelVersion | None:
    """Return the version that a run has published into the store, or None.

    The version holds the `name` of the run. The run's folder does not hold the version: a run that is killed right
    after publishing could not have written it. A run of an older release has no name; its best weights are compared.
    """
    if name is not None:
        with suppress(StoreNotFound):
            return store.published_by(run.recipe.name, name)
        return None
    run.averaged.load_state_dict(run.best_weights)
    digest = hashlib.sha256(to_bytes(run.averaged)).hexdigest()
    with suppress(StoreNotFound):
        for version in store.versions(run.recipe.name):
            with suppress(UnknownFormat):
                if store.card(version).weights.sha256 == digest:
                    return version
    return None


def git_commit() -> str | None:
    """The commit of this code, with `-dirty` after a change; None outside a checkout."""
    git = shutil.which("git")
    if git is None:
        return None
    command = [git, "-C", str(Path(__file__).parent), "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    result = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603  # words of our own only
    return result.stdout.strip() or None


def training_summary(run: Run, dataset: Dataset, commit: str | None) -> TrainingSummary:
    """The origin of a run's best weights, for the card."""
    return TrainingSummary(
        recipe=run.recipe.model_dump(mode="json"),
        data=dataset.summary(),
        seed=run.recipe.seed,
        git_commit=commit,
        epochs=len(run.history),
        best_epoch=run.best_epoch,
        seconds=round(sum(epoch.seconds for epoch in run.history), 1),
        device=device_name(run.device),
        torch=torch.__version__,
    )
