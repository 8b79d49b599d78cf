"""`python -m training.evaluate` measures models of every family on any images, and publishes what it measured."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from model_store import VAE, Card, Store
from model_store.vae.pixels import to_images
from training.__main__ import main
from training.calibrate import main as calibrate
from training.evaluate.__main__ import main as evaluate
from training.fit_prior import main as fit_prior
from training.recipe import Recipe

from ...model_store.importing.conftest import tiny
from ..conftest import bars


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """Three colour pictures of two sizes, a picture that is too small for the model, and one that is broken."""
    folder, random = tmp_path / "pictures", np.random.default_rng(0)
    folder.mkdir()
    for number, size in enumerate([(20, 27), (20, 27), (40, 16), (7, 30)]):
        Image.fromarray(random.integers(0, 256, (*size, 3), np.uint8)).save(folder / f"{number}.png")
    (folder / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    return folder


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """A store with a tiny autoencoder that others trained."""
    store = Store(tmp_path / "store")
    store.publish("tiny", tiny())
    return store


def card(store: Store, reference: str) -> Card:
    """The card of a version."""
    return store.card(store.resolve(reference))


def value(card: Card, name: str) -> float:
    """A number of a card."""
    metric = card.metric(name)
    assert metric is not None
    return metric.value


@torch.inference_mode()
def reconstruction_errors(pictures: Path) -> list[np.ndarray]:
    """The errors of each picture that fits, cropped by hand to multiples of 8, at most 24 a side."""
    model, found = tiny().float(), []
    for number, (top, left, height, width) in enumerate([(2, 1, 16, 24), (2, 1, 16, 24), (8, 0, 24, 16)]):
        with Image.open(pictures / f"{number}.png", formats=["PNG"]) as picture:
            pixels = np.asarray(picture)
        part = torch.from_numpy(pixels[top : top + height, left : left + width].copy()).permute(2, 0, 1)
        images = to_images(part)[None]
        found.append((model.decode(model.encode(images).mean).mean - images).numpy())
    return found


def test_model_of_any_size_is_measured_on_a_folder(
    store: Store, pictures: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each picture at its own size, cropped to what the model takes; the new version has the numbers and a figure."""
    call = ["tiny", "--store", str(store.root), "--data", str(pictures), "--side", "24", "--publish"]
    assert evaluate(call) == 0

    errors = reconstruction_errors(pictures)
    mse = np.mean([np.square(each).mean() for each in errors])
    measured = card(store, "tiny@2")
    assert value(measured, "mse") == pytest.approx(mse, rel=1e-3)
    assert value(measured, "mae") == pytest.approx(np.mean([np.abs(each).mean() for each in errors]), rel=1e-3)
    assert value(measured, "psnr_db") == pytest.approx(-10 * np.log10(mse), abs=0.01)
    each_db = [-10 * np.log10(np.square(each).mean()) for each in errors]
    assert value(measured, "mean_psnr_db") == pytest.approx(np.mean(each_db), abs=0.01)
    assert all("3 pictures of pictures, cropped to 16×24 … 24×16" in metric.protocol for metric in measured.metrics)
    assert measured.weights == card(store, "tiny@1").weights
    with Image.open(store.folder(store.resolve("tiny@2")) / "reconstructions.png", formats=["PNG"]) as figure:
        assert min(figure.size) >= 256
    said = " ".join(capsys.readouterr().out.split())
    assert "broken.png" in said
    assert "Published tiny@2 in " in said


def test_model_of_any_size_is_measured_on_an_array(store: Store, tmp_path: Path) -> None:
    """Grey images become colour for a model of colour."""
    np.save(tmp_path / "bars.npy", bars(5, side=16)[:, 0].numpy())

    call = ["tiny", "--store", str(store.root), "--data", str(tmp_path / "bars.npy"), "--images", "4", "--publish"]
    assert evaluate(call) == 0

    metric = card(store, "tiny@2").metric("psnr_db")
    assert metric is not None
    assert "4 pictures of bars.npy, cropped to 16×16, values in [0, 1]" in metric.protocol


def test_model_of_any_size_is_measured_on_the_test_images_of_arrays(store: Store, tmp_path: Path) -> None:
    """Images to train on are not counted."""
    pixels = bars(5, side=16)[:, 0].numpy()
    np.savez(tmp_path / "bars.npz", train=pixels, test=pixels[:2])

    call = ["tiny", "--store", str(store.root), "--data", str(tmp_path / "bars.npz"), "--publish"]
    assert evaluate(call) == 0

    assert all("2 pictures of bars.npz," in metric.protocol for metric in card(store, "tiny@2").metrics)


@pytest.mark.parametrize(("split", "found"), [("train", 3), ("other", 4)])
def test_model_of_any_size_is_measured_on_the_test_pictures_of_a_folder(
    store: Store, pictures: Path, split: str, found: int
) -> None:
    """As in a training, `test` is a part of the folder only if `train` is beside it."""
    (pictures / "broken.png").unlink()
    (pictures / "3.png").unlink()
    pictures.rename(pictures.parent / "test")
    (pictures / split).mkdir(parents=True)
    (pictures.parent / "test").rename(pictures / "test")
    Image.new("RGB", (16, 16)).save(pictures / split / "0.png")

    assert evaluate(["tiny", "--store", str(store.root), "--data", str(pictures), "--side", "24", "--publish"]) == 0

    assert all(f"{found} pictures of pictures," in metric.protocol for metric in card(store, "tiny@2").metrics)


def test_model_of_any_size_needs_data(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    """Its card names no images."""
    assert evaluate(["tiny", "--store", str(store.root)]) == 1
    assert "name test images with --data" in capsys.readouterr().out


def test_sides_that_are_too_small_for_the_model_are_an_error(
    store: Store, pictures: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The model takes sides that are multiples of 8."""
    assert evaluate(["tiny", "--store", str(store.root), "--data", str(pictures), "--side", "7"]) == 1
    assert "no picture that can be used with sides of at most 7 pixels" in " ".join(capsys.readouterr().out.split())


def test_model_without_quantiles_gets_them_in_a_new_version(recipe: Recipe, idx_folder: Path, tmp_path: Path) -> None:
    """A network that was published by hand can then tell how unusual an image is."""
    store = Store(tmp_path / "store")
    store.publish("bars", VAE(recipe.model))

    assert evaluate(["bars", "--store", str(store.root), "--data", str(idx_folder), "--publish"]) == 0

    before, after = card(store, "bars@1"), card(store, "bars@2")
    assert (before.scores, before.latents) == (None, None)
    assert after.scores is not None
    assert after.scores.protocol.startswith("40 test images of idx, ")
    assert after.latents is not None
    assert {path.name for path in store.folder(store.resolve("bars@2")).glob("*.png")} == {
        "samples.png",
        "reconstructions.png",
    }


def test_new_version_keeps_the_rest_of_the_card(call: list[str], idx_folder: Path, tmp_path: Path) -> None:
    """The training, its curves, the fit and the numbers that were not measured again are as before."""
    main(call)
    store = Store(tmp_path / "the store")
    places = ["--store", str(store.root), "--data", str(idx_folder)]
    assert fit_prior(["bars", *places, "--steps", "5", "--couplings", "2", "--width", "8"]) == 0

    assert evaluate(["bars", *places, "--importance-samples", "7", "--publish"]) == 0

    before, after = card(store, "bars@2"), card(store, "bars@3")
    assert before.fit is not None
    changed = {metric.name for metric, old in zip(after.metrics, before.metrics, strict=True) if metric != old}
    assert changed == {"importance_weighted_nats"}
    assert after.model_copy(update={"created": before.created, "metrics": before.metrics}) == before
    curves = [(store.folder(store.resolve(name)) / "curves.png").read_bytes() for name in ("bars@1", "bars@3")]
    assert curves[0] == curves[1]


@pytest.mark.parametrize("selection", [["--images", "3"], ["--other-data"]], ids=["few", "other"])
def test_few_or_other_images_leave_the_quantiles(
    call: list[str], idx_folder: Path, tmp_path: Path, selection: list[str]
) -> None:
    """The service compares scores with the scores of all test images; the numbers name their images."""
    main(call)
    store = Store(tmp_path / "the store")
    np.save(tmp_path / "other.npy", bars(7)[:, 0].numpy())
    place = tmp_path / "other.npy" if "--other-data" in selection else idx_folder

    assert evaluate(["bars", "--store", str(store.root), "--data", str(place), *selection, "--publish"]) == 0

    before, after = card(store, "bars@1"), card(store, "bars@2")
    assert before.scores is not None
    assert (after.scores, after.latents) == (before.scores, before.latents)
    assert value(after, "mse") != value(before, "mse")


def test_few_images_give_quantiles_to_a_model_without(recipe: Recipe, idx_folder: Path, tmp_path: Path) -> None:
    """The protocol of the quantiles has the number of images."""
    store = Store(tmp_path / "store")
    store.publish("bars", VAE(recipe.model))

    assert evaluate(["bars", "--store", str(store.root), "--data", str(idx_folder), "--images", "3", "--publish"]) == 0

    after = card(store, "bars@2")
    assert after.scores is not None
    assert after.scores.protocol.startswith("3 test images of idx, ")
    assert after.latents is not None


def test_calibrations_are_copied_to_the_new_version(recipe: Recipe, idx_folder: Path, tmp_path: Path) -> None:
    """The weights are the same, so the quantiles of normal images hold for the new version too."""
    store = Store(tmp_path / "store")
    before = store.publish("bars", VAE(recipe.model))
    places = ["--store", str(store.root), "--data", str(idx_folder)]
    assert calibrate(["bars", *places, "--name", "line-3"]) == 0

    assert evaluate(["bars", *places, "--publish"]) == 0

    after = store.resolve("bars@2")
    assert list(store.calibrations(after)) == ["line-3"]
    assert store.calibration(after, "line-3") == store.calibration(before, "line-3")


def test_model_is_measured_on_other_images_if_the_user_says_so(
    call: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The protocol names the place, and --resize fits the images."""
    main(call)
    np.save(tmp_path / "other.npy", bars(20, side=16)[:, 0].numpy())
    places = ["--store", str(tmp_path / "the store"), "--data", str(tmp_path / "other.npy")]

    assert evaluate(["bars", *places, "--other-data", "--resize", "stretch"]) == 0

    assert "20 test images of other.npy" in " ".join(capsys.readouterr().out.split())


def test_store_that_cannot_be_written_is_found_before_the_measurement(
    store: Store, pictures: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A large autoencoder is measured for minutes."""

    def read_only(*_: object) -> None:
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(Store, "prepare", read_only)
    monkeypatch.setattr("training.evaluate.__main__.measure", lambda *_: pytest.fail("it was measured"))

    assert evaluate(["tiny", "--store", str(store.root), "--data", str(pictures), "--publish"]) == 1
    assert "Read-only file system" in capsys.readouterr().out
