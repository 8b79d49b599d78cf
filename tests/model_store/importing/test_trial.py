"""The pictures on which a model is tried, and the numbers that are measured."""

from collections.abc import Callable
from pathlib import Path
from typing import cast

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from model_store import CannotImport
from model_store.diffusers import DiffusersAutoencoder
from model_store.families import Network
from model_store.importing.peak_memory import with_peak
from model_store.importing.trial import Trial, try_model
from model_store.importing.trial_pictures import TrialPictures, generated_picture, pictures_of
from model_store.inference_form import bring_into_inference_form
from model_store.taesd import TAESD, TAESDConfig
from model_store.vae.device import dtype_of
from model_store.vae.pixels import psnr_db

from ..library_models import record
from .conftest import tiny

CONFIG = TAESDConfig(image_shape=(3, None, None), latent_shape=(4, None, None), latent_space="any")


def save(path: Path, width: int, height: int, mode: str = "RGB") -> None:
    """A picture file of one colour."""
    Image.new(mode, (width, height), "white").save(path)


@pytest.mark.parametrize(
    ("size", "shape"),
    [((35, 40), (3, 40, 32)), ((1, 600), (3, 512, 8)), ((700, 9), (3, 8, 512)), ((8, 8), (3, 8, 8))],
)
def test_pictures_are_cropped_to_sizes_of_the_model(
    tmp_path: Path, size: tuple[int, int], shape: tuple[int, int, int]
) -> None:
    """A side is at most 512 pixels, and a very small picture is enlarged."""
    save(tmp_path / "picture.png", *size)

    assert [pixels.shape for pixels in pictures_of(tmp_path, CONFIG).pixels] == [shape]


def test_crop_is_the_centre(tmp_path: Path) -> None:
    """The pixels themselves are not resampled."""
    values = np.arange(40 * 24 * 3, dtype=np.uint32).reshape(40, 24, 3).astype(np.uint8)
    Image.fromarray(values).save(tmp_path / "picture.png")
    config = TAESDConfig(image_shape=(3, None, None), latent_shape=(4, None, None), latent_space="any")

    (pixels,) = pictures_of(tmp_path, config).pixels

    assert np.array_equal(pixels, values.transpose(2, 0, 1))


def test_first_four_pictures_are_taken(tmp_path: Path) -> None:
    """Other files of the folder are left alone."""
    for number in range(6):
        save(tmp_path / f"{number}.PNG", 8, 8)
    (tmp_path / "0.txt").write_text("text")

    pictures = pictures_of(tmp_path, CONFIG)

    assert pictures.words == "4 pictures cropped to 8×8: 0.PNG, 1.PNG, 2.PNG, 3.PNG"


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda folder: (folder / "a.txt").touch(), "the folder has no picture"),
        (lambda folder: (folder / "a.png").write_text("text"), "the picture cannot be read"),
        (lambda folder: (folder / "a.png").mkdir(), "it is not a regular file"),
        (lambda folder: folder.rmdir(), "the folder of pictures cannot be read"),
        (lambda folder: save(folder / "a.png", 16_000, 4_000, "1"), "it has more than 50,000,000 pixels"),
    ],
)
def test_pictures_that_cannot_be_read_are_named(tmp_path: Path, make: Callable[[Path], object], reason: str) -> None:
    """The error has the remedy."""
    folder = tmp_path / "pictures"
    folder.mkdir()
    make(folder)

    with pytest.raises(CannotImport, match=rf"{reason}.*with --pictures, or leave the option out"):
        pictures_of(folder, CONFIG)


def trial_of(model: TAESD, folder: Path) -> Trial:
    """The trial of a model on a picture with noise."""
    pixels = np.random.default_rng(1).integers(0, 256, (16, 24, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(folder / "picture.png")
    return try_model(model, pictures_of(folder, model.config), lambda: None)


@torch.inference_mode()
def test_latents_whose_squares_overflow_are_measured(tmp_path: Path) -> None:
    """Latents of 1e20 are finite in float32, and their variance is not; the metric was NaN, and the import failed."""
    model = tiny().float().eval()
    cast(nn.Conv2d, model.encoder[-1]).weight.mul_(1e20)

    values = {metric.name: metric.value for metric in trial_of(model, tmp_path).metrics}

    assert 20 < values["encode_agreement_db"] < 100


@torch.inference_mode()
def test_numbers_are_the_ones_of_the_definition(tmp_path: Path) -> None:
    """PSNR of the reconstruction, and the agreement of the precisions, computed again."""
    model = tiny().float().eval()
    trial = trial_of(model, tmp_path)
    values = {metric.name: metric.value for metric in trial.metrics}

    images = torch.from_numpy(pictures_of(tmp_path, model.config).pixels[0])[None] / 255
    latents = model.encode(images).mean
    decoded = model.decode(latents).mean
    half, kind = tiny().eval(), torch.bfloat16
    bring_into_inference_form(half, torch.device("cpu"), {"encode": kind, "decode": kind})
    noise = (half.encode(images).mean - latents).square().mean()

    assert values["psnr_float32_db"] == pytest.approx(psnr_db((decoded - images).square().mean().item()), abs=1e-3)
    assert values["encode_agreement_db"] == pytest.approx(
        (latents.var(correction=0) / noise).log10().item() * 10, abs=0.1
    )
    assert values["decode_agreement_db"] > 20
    for direction in ("encode", "encode_bfloat16", "decode", "decode_bfloat16"):
        assert values[f"{direction}_s_per_megapixel"] > 0


def agreements_in_tiles(model: Network, height: int, width: int) -> list[float]:
    """The agreements of tiles with a picture with noise."""
    pixels = np.random.default_rng(1).integers(0, 256, (3, height, width), dtype=np.uint8)
    trial = try_model(model, TrialPictures((pixels,), "noise"), lambda: None)
    return [metric.value for metric in trial.metrics if metric.name.startswith("tiled_")]


def test_card_tells_how_well_blended_tiles_agree_with_the_whole_picture() -> None:
    """The normalisation of this network takes its statistics over each tile alone."""
    model = DiffusersAutoencoder(record("AutoencoderKL")).eval()

    for value in agreements_in_tiles(model, 256, 256):
        assert 15 < value < 80


@pytest.mark.parametrize(("height", "width"), [(8, 8), (24, 16), (32, 40)])
def test_tiles_that_would_cover_a_picture_are_not_measured(height: int, width: int) -> None:
    """They would agree with it entirely, which says nothing of large pictures."""
    model = DiffusersAutoencoder(record("AutoencoderKL")).eval()

    assert agreements_in_tiles(model, height, width) == []


def test_exact_tiles_are_not_measured() -> None:
    """They give the whole picture's answer, but for rounding."""
    assert agreements_in_tiles(tiny(), 16, 16) == []


def test_model_that_needs_float32_gets_a_warning(tmp_path: Path) -> None:
    """The numbers of bfloat16 are left out, since no card can hold them."""

    class Fragile(TAESD):
        def decode(self, latents: torch.Tensor) -> object:  # type: ignore[override]
            likelihood = super().decode(latents)
            broken = likelihood.location * (torch.nan if dtype_of(self.decoder) == torch.bfloat16 else 1)
            return type(likelihood)(broken)

    trial = trial_of(Fragile(CONFIG), tmp_path)

    assert "serve it in float32" in trial.warnings[0]
    assert not any("bfloat16" in metric.name or "agreement" in metric.name for metric in trial.metrics)


def test_memory_is_looked_at_before_a_picture_is_computed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine without that memory would end the process."""
    monkeypatch.setattr("model_store.free_memory.free_memory", lambda: 1000)

    with pytest.raises(CannotImport, match=r"a picture of 16×24 takes .* bytes of memory, but only 1,000 are free"):
        trial_of(tiny(), tmp_path)


def test_precisions_that_agree_entirely_have_a_finite_number(tmp_path: Path) -> None:
    """A card cannot hold an infinite number of decibels."""
    model = TAESD(CONFIG)
    with torch.no_grad():
        for parameter in model.encoder[-1].parameters():
            parameter.zero_()

    values = {metric.name: metric.value for metric in trial_of(model, tmp_path).metrics}

    assert values["encode_agreement_db"] == 150


def test_generated_picture_is_always_the_same() -> None:
    """The numbers of two imports can be compared."""
    first, again = generated_picture(CONFIG), generated_picture(CONFIG)

    assert np.array_equal(first.pixels[0], again.pixels[0])
    assert first.pixels[0].shape == (3, 256, 256)
    assert first.pixels[0].std() > 30


def test_generated_picture_can_be_grey() -> None:
    """A model may have one channel."""
    config = TAESDConfig(image_shape=(1, None, None), latent_shape=(4, None, None), latent_space="any")

    assert generated_picture(config).pixels[0].shape == (1, 256, 256)


def test_peak_counts_memory_that_was_given_back() -> None:
    """The work takes 64 MB and keeps none of it."""
    result, peak = with_peak(lambda: int(np.ones(2**26, np.uint8)[-1]))

    assert result == 1
    assert peak is None or 2**26 * 0.9 < peak < 2**26 * 1.5


def test_peak_is_unknown_where_the_kernel_does_not_tell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Other systems have no /proc; the metrics are left out there."""
    monkeypatch.setattr("model_store.importing.peak_memory._RESET", tmp_path / "nowhere" / "file")

    assert with_peak(lambda: 1) == (1, None)
    assert not any("bytes" in metric.name for metric in trial_of(tiny(), tmp_path).metrics)
