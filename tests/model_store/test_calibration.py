"""Calibrations: quantiles of normal images beside a version, which come and go while the version stays."""

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest
from pydantic import ValidationError

from model_store import (
    Calibration,
    InvalidName,
    LatentSummary,
    ModelVersion,
    ScoreQuantiles,
    Store,
    UnusableCalibration,
)
from model_store import calibration as calibrations
from model_store.errors import ModelNotFound, TooManyCalibrations

GREY = ModelVersion("grey", 1)


def made(store: Store, version: ModelVersion = GREY, first: float = -100.0) -> Calibration:
    """A calibration of a version."""
    return Calibration(
        created=datetime(2026, 11, 27, tzinfo=UTC),
        weights_sha256=store.card(version).weights.sha256,
        data="good parts",
        images=500,
        draws=1,
        scores=ScoreQuantiles(elbo_nats=tuple(first + number for number in range(101)), protocol="made up"),
    )


def test_calibration_reads_back_and_is_replaced(store: Store) -> None:
    """Another of the same name takes its place in one step."""
    store.add_calibration(GREY, "line-3", made(store))
    before = store.calibrations(GREY)
    store.add_calibration(GREY, "line-3", made(store, first=-50))

    assert store.calibration(GREY, "line-3") == made(store, first=-50)
    assert store.calibrations(GREY).keys() == {"line-3"}
    assert store.calibrations(GREY) != before


def test_version_stays_as_it_was(store: Store) -> None:
    """A version never changes: the calibration is not one of its files, and no folder counts as misplaced."""
    before = store.fingerprint(GREY), sorted(store.folder(GREY).iterdir())
    store.add_calibration(GREY, "line-3", made(store))

    assert (store.fingerprint(GREY), sorted(store.folder(GREY).iterdir())) == before
    assert store.misplaced() == {}
    assert store.versions("grey") == [GREY]


def test_calibration_of_other_weights_is_refused(store: Store) -> None:
    """Its quantiles would rank images by the scores of another model."""
    file = store.add_calibration(GREY, "line-3", made(store, ModelVersion("colour", 1)))

    with pytest.raises(UnusableCalibration, match="belongs to other weights") as refusal:
        store.calibration(GREY, "line-3")
    assert str(file) in str(refusal.value)


@pytest.mark.parametrize("values", [1, 2, 4])
def test_calibration_with_latents_of_another_length_is_refused(store: Store, values: int) -> None:
    """A distance from them would be wrong, or no number at all: grey's latents have three values."""
    latents = LatentSummary(mean=(0.0,) * values, standard_deviation=(1.0,) * values, kl_nats=None)
    store.add_calibration(GREY, "line-3", made(store).model_copy(update={"latents": latents}))

    with pytest.raises(UnusableCalibration, match="must have 3 values"):
        store.calibration(GREY, "line-3")


def test_distances_need_the_latents_that_they_are_from() -> None:
    """An image would have no distance to compare with the quantiles."""
    hundred = tuple(map(float, range(101)))

    with pytest.raises(ValidationError, match="latents are missing"):
        Calibration(
            created=datetime(2026, 11, 27, tzinfo=UTC),
            weights_sha256="0" * 64,
            data="good parts",
            images=500,
            draws=1,
            scores=ScoreQuantiles(elbo_nats=hundred, latent_distance=hundred, protocol="made up"),
        )


@pytest.mark.parametrize("content", ["{", "[]", '{"format": 2}', '{"format": 1, "data": 5}'])
def test_file_that_is_not_a_calibration_is_refused(store: Store, content: str) -> None:
    """The message names the file and the remedy."""
    file = store.add_calibration(GREY, "line-3", made(store))
    file.write_text(content)

    with pytest.raises(UnusableCalibration, match="make it again: python -m training"):
        store.calibration(GREY, "line-3")


def test_file_that_is_too_large_is_not_read(store: Store) -> None:
    """A calibration has at most a mebibyte."""
    file = store.add_calibration(GREY, "line-3", made(store))
    file.write_bytes(b" " * (calibrations.MAX_CALIBRATION_BYTES + 1))

    with pytest.raises(UnusableCalibration):
        store.calibration(GREY, "line-3")


@pytest.mark.parametrize("name", ["", "../line", "a/b", ".hidden"])
def test_name_never_becomes_another_path(store: Store, name: str) -> None:
    """A calibration has a name as a model has."""
    with pytest.raises(InvalidName):
        store.add_calibration(GREY, name, made(store))


def test_calibration_needs_its_version(store: Store) -> None:
    """A calibration of a version that is not there would be found by no one, and no folder is left."""
    with pytest.raises(ModelNotFound):
        store.add_calibration(ModelVersion("grey", 7), "line-3", made(store))
    with pytest.raises(ModelNotFound):
        store.add_calibration(ModelVersion("unknown", 1), "line-3", made(store))

    assert not (store.root / "unknown").exists()


def test_check_leaves_nothing_behind(store: Store) -> None:
    """Before images are measured, it is known that their calibration can be written."""
    before = sorted(store.root.rglob("*"))
    store.check_calibration(GREY, "line-3")

    assert sorted(store.root.rglob("*")) == before


def test_version_has_a_bounded_number_of_them(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """The error names the folder to delete one from; to replace one is still possible."""
    monkeypatch.setattr("model_store.store.MAX_CALIBRATIONS", 2)
    for name in ("a", "b", "a"):
        store.add_calibration(GREY, name, made(store))

    with pytest.raises(TooManyCalibrations, match="calibrations/1"):
        store.add_calibration(GREY, "c", made(store))


def test_copy_takes_the_calibrations_along(store: Store, tmp_path: Path) -> None:
    """The weights are the same, so the scores are."""
    store.add_calibration(GREY, "line-3", made(store))
    other = Store(tmp_path / "other")

    copy = store.copy(GREY, other, "plant")

    assert other.calibration(copy, "line-3") == made(store)


def test_broken_calibration_does_not_hold_up_a_copy(store: Store, tmp_path: Path) -> None:
    """The version is sound, and so is its other calibration."""
    store.add_calibration(GREY, "sound", made(store))
    store.add_calibration(GREY, "broken", made(store)).write_text("{")
    other = Store(tmp_path / "other")

    copy = store.copy(GREY, other)

    assert other.calibrations(copy).keys() == {"sound"}


def test_deleted_version_loses_its_calibrations(store: Store) -> None:
    """The number is not given again, so they would belong to no version."""
    file = store.add_calibration(GREY, "line-3", made(store))
    store.delete(GREY)

    assert not file.exists()


def test_file_is_json_for_people(store: Store) -> None:
    """Unknown latents and unknown quantiles are left out."""
    file = store.add_calibration(GREY, "line-3", made(store))
    content = json.loads(file.read_text())

    assert content["format"] == 1
    assert "latents" not in content
    assert "kl_nats" not in content["scores"]
