"""Calibrate: normal images are measured, and the service compares others with them."""

import re
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from model_store import ModelVersion, Store
from training.calibrate import main
from training.evaluate.bounds import score
from training.evaluate.latents import latent_use
from training.evaluate.statistics import scored

from ..conftest import GREY, make_model
from .conftest import bars

VERSION = ModelVersion("grey", 1)


@pytest.fixture
def normal(tmp_path: Path) -> Path:
    """Normal images as an array in a file."""
    place = tmp_path / "good.npy"
    np.save(place, bars(150)[:, 0].numpy())
    return place


def noise(count: int) -> Tensor:
    """Images of which no two are equal."""
    return torch.randint(0, 256, (count, 1, 8, 8), generator=torch.Generator().manual_seed(0)).to(torch.uint8)


def calibrate(store: Store, place: Path, *more: str) -> int:
    """The exit status of the command."""
    return main(["grey", "--data", str(place), "--store", str(store.root), "--device", "cpu", *more])


def test_calibration_has_the_quantiles_of_the_normal_images(store: Store, normal: Path) -> None:
    """The median of the calibration is the median of the images' own scores, for each statistic and the pixels."""
    assert calibrate(store, normal, "--name", "line-3") == 0

    found, pixels = store.calibration(VERSION, "line-3"), bars(150)
    model = store.load(VERSION).vae
    expected = scored(model, pixels, latent_use(model, pixels).summary())
    assert (found.data, found.images) == ("good.npy", 150)
    for name, numbers in vars(expected.statistics).items():
        assert getattr(found.scores, name)[50] == pytest.approx(np.median(numbers), rel=1e-4)
    assert found.scores.pixel_nats is not None
    assert found.scores.pixel_nats[100] == pytest.approx(expected.pixel_nats.max(), rel=1e-4)


def test_image_of_the_calibration_has_its_rank(store: Store) -> None:
    """A tenth of the normal images has a percentile below 10, by each statistic."""
    model, pixels = store.load(VERSION).vae, noise(400)
    found = scored(model, pixels, latent_use(model, pixels).summary())

    for statistic in ("elbo", "reconstruction", "kl", "distance", "complexity"):
        percentiles = found.quantiles("400 images").percentiles(statistic, found.statistics)
        assert np.mean(np.array(percentiles) < 10) == pytest.approx(0.1, abs=0.03), statistic


def test_statistics_are_the_bounds_of_the_evaluation(store: Store) -> None:
    """Both have the same terms; the noise differs, so that only the means over many draws are close."""
    model, pixels = store.load(VERSION).vae, bars(20)
    found, bound = scored(model, pixels, None, draws=400), score(model, pixels, draws=400)

    assert found.statistics.elbo_nats.mean() == pytest.approx(bound.elbo_nats.mean().item(), rel=0.02)
    assert found.statistics.kl_nats.mean() == pytest.approx(bound.kl_nats.mean().item(), rel=0.05)
    assert found.statistics.latent_distance is None


def test_command_says_how_to_use_it(store: Store, normal: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The last line is a request that a person can copy."""
    calibrate(store, normal, "--name", "line-3")
    shown = capsys.readouterr().out

    assert "/v1/models/grey@1/score?calibration=line-3&threshold=q01" in shown
    assert "150 test images of good.npy" in shown


def test_few_images_are_warned_of(store: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The first percentile of ten images is a single image."""
    place = tmp_path / "few.npy"
    np.save(place, bars(10)[:, 0].numpy())

    assert calibrate(store, place, "--name", "line-3") == 0
    shown = "".join(capsys.readouterr())
    assert "use 100 or more" in re.sub(r"\s+", " ", shown)


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["--name", "../x"], "is not the name of a model"),
        (["--name", "x", "--data", "nowhere"], "nowhere"),
    ],
)
def test_calibration_that_cannot_be_made_is_refused(
    store: Store, normal: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], reason: str
) -> None:
    """The status is 1, and nothing is written."""
    assert calibrate(store, normal, *arguments) == 1
    assert reason in "".join(capsys.readouterr())
    assert store.calibrations(VERSION) == {}


def test_name_is_checked_before_images_are_read(
    store: Store, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A measurement of minutes would be lost."""
    monkeypatch.setattr("training.calibrate.load_test", lambda *_, **__: pytest.fail("images were read"))

    assert calibrate(store, Path("nowhere"), "--name", "line 3") == 1
    assert "is not the name" in "".join(capsys.readouterr())


def test_model_whose_scores_are_not_finite_is_refused(
    store: Store, normal: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The message is a sentence, and nothing is written."""
    model = make_model(GREY)
    with torch.no_grad():
        for parameter in model.decoder.parameters():
            parameter.fill_(1e38)
    store.publish("broken", model)

    assert main(["broken", "--data", str(normal), "--store", str(store.root), "--name", "x"]) == 1
    assert "not finite" in "".join(capsys.readouterr())
    assert store.calibrations(ModelVersion("broken", 1)) == {}


def test_model_without_a_posterior_is_refused(store: Store, normal: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A plain autoencoder has no score; the message names the remedy."""
    store.publish("plain", make_model(GREY.model_copy(update={"posterior": "point"})))

    assert main(["plain", "--data", str(normal), "--store", str(store.root), "--name", "x"]) == 1
    assert "plain autoencoder" in "".join(capsys.readouterr())
