"""The three splits of a run, and its batches."""

import hashlib
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from training.data import flipped, load_dataset, shuffled_batches
from training.errors import BadData, DataNotFound, NotText
from training.recipe import Recipe, read_recipe

from .conftest import bars


def test_files_with_a_test_set_keep_it(recipe: Recipe, idx_folder: Path) -> None:
    """A twentieth of the training images chooses the weights."""
    dataset = load_dataset(recipe, idx_folder)

    assert [len(split) for split in (dataset.train, dataset.validation, dataset.test)] == [380, 20, 40]
    assert torch.equal(dataset.test, bars(40))


def test_data_without_a_test_set_is_divided(recipe: Recipe, idx_folder: Path) -> None:
    """A tenth of all images is kept to test with."""
    (idx_folder / "t10k-images-idx3-ubyte.gz").unlink()

    dataset = load_dataset(recipe, idx_folder)

    assert [len(split) for split in (dataset.train, dataset.validation, dataset.test)] == [340, 20, 40]


def test_splits_are_the_same_for_the_same_seed_and_share_no_image(recipe: Recipe, idx_folder: Path) -> None:
    """Each image of the file is in one split."""
    first, second = load_dataset(recipe, idx_folder), load_dataset(recipe, idx_folder)
    together = torch.cat([first.train, first.validation]).flatten(1)

    assert first.summary() == second.summary()
    assert sorted(together.tolist()) == sorted(bars(400).flatten(1).tolist())


def test_hash_is_of_every_pixel(recipe: Recipe, idx_folder: Path) -> None:
    """SHA-256 over training, validation and test pixels, in order."""
    dataset = load_dataset(recipe, idx_folder)
    pixels = torch.cat([dataset.train, dataset.validation, dataset.test])

    assert dataset.summary().sha256 == hashlib.sha256(pixels.numpy().tobytes()).hexdigest()


def test_other_size_needs_a_rule(recipe_file: Path, idx_folder: Path) -> None:
    """8×8 images for a 4×4 model are an error that names the remedy, or are resized by the recipe's rule."""
    smaller = ["model.image_shape=[1, 4, 4]"]

    with pytest.raises(BadData, match=r"\(1, 8, 8\) .* set data\.resize"):
        load_dataset(read_recipe(str(recipe_file), smaller), idx_folder)

    dataset = load_dataset(read_recipe(str(recipe_file), [*smaller, "data.resize=stretch"]), idx_folder)
    assert dataset.train.shape == (380, 1, 4, 4)


def test_images_set_apart_to_choose_by_choose(recipe: Recipe, tmp_path: Path) -> None:
    """The training images are not divided where the data has images to choose the weights by."""
    np.savez(tmp_path / "bars.npz", train=bars(50)[:, 0].numpy(), val=bars(7)[:, 0].numpy())

    dataset = load_dataset(recipe, tmp_path / "bars.npz")

    assert torch.equal(dataset.validation, bars(7))
    assert [len(dataset.train), len(dataset.test)] == [45, 5]


def test_recipe_without_a_source_needs_data(recipe_file: Path, idx_folder: Path) -> None:
    """A user's own recipe need not name a public data set."""
    recipe_file.write_text(recipe_file.read_text().replace('[data]\nsource = "mnist"\n', ""))
    recipe = read_recipe(str(recipe_file))

    assert len(load_dataset(recipe, idx_folder).test) == 40
    with pytest.raises(DataNotFound, match=r"no data\.source .* name images with --data"):
        load_dataset(recipe)


def test_path_outside_utf8_is_an_error_before_any_work(recipe: Recipe, tmp_path: Path) -> None:
    """A run and a card cannot hold a name in Latin-1, so the folder is not read."""
    place = Path(os.fsdecode(bytes(tmp_path) + b"/\xe9t\xe9"))
    place.mkdir()
    (tmp_path / "link").symlink_to(place)

    with pytest.raises(NotText, match="rename it"):
        load_dataset(recipe, tmp_path / "link")


def test_too_few_images_are_an_error(recipe: Recipe, tmp_path: Path) -> None:
    """Three splits need three images at least."""
    np.save(tmp_path / "two.npy", bars(2)[:, 0].numpy())

    with pytest.raises(BadData, match="it has 2 images, too few"):
        load_dataset(recipe, tmp_path / "two.npy")


def test_batches_hold_every_image_once_in_a_drawn_order() -> None:
    """The last batch may be smaller; the same generator gives the same order."""
    pixels = torch.arange(10, dtype=torch.uint8).view(10, 1, 1, 1)

    def batches(seed: int) -> list[list[int]]:
        generator = torch.Generator().manual_seed(seed)
        return [batch.flatten().tolist() for batch in shuffled_batches(pixels, 4, generator)]

    assert [len(batch) for batch in batches(0)] == [4, 4, 2]
    assert sorted(number for batch in batches(0) for number in batch) == list(range(10))
    assert batches(0) == batches(0)
    assert batches(0) != batches(1)


def test_inverted_images_are_negatives(recipe_file: Path, idx_folder: Path) -> None:
    """Black on white becomes white on black, in every split; the card says so."""
    plain, negative = (
        load_dataset(read_recipe(str(recipe_file), [f"data.invert={word}"]), idx_folder) for word in ("false", "true")
    )

    assert torch.equal(negative.train, 255 - plain.train)
    assert torch.equal(negative.test, 255 - plain.test)
    assert negative.summary().invert
    assert "invert" not in plain.summary().model_dump()


@pytest.mark.parametrize(("background", "value"), [("black", 0), ("white", 255), ("grey", 128)])
def test_background_is_behind_transparent_pixels_and_around_padded_pictures(
    recipe_file: Path, tmp_path: Path, background: str, value: int
) -> None:
    """The upper half of each picture is transparent, and `contain` pads its left and right."""
    for number in range(30):
        picture = Image.new("RGBA", (8, 16), (60, 60, 60, 255))
        picture.paste((0, 0, 0, 0), (0, 0, 8, 8))
        picture.save(tmp_path / f"{number}.png")
    (tmp_path / "bars.toml").write_text(recipe_file.read_text())
    changes = ["data.resize=contain", f"data.background={background}"]

    image = load_dataset(read_recipe(str(recipe_file), changes), tmp_path).train[0, 0]

    assert image[0].unique().tolist() == [value]
    assert image[:, 0].unique().tolist() == [value]
    assert image[-1, 4] == 60


def test_alpha_of_arrays_is_composited_on_the_background(recipe_file: Path, tmp_path: Path) -> None:
    """Arrays follow the same rule as pictures."""
    np.save(tmp_path / "clear.npy", np.zeros((30, 8, 8, 2), np.uint8))

    dataset = load_dataset(read_recipe(str(recipe_file), ["data.background=white"]), tmp_path / "clear.npy")

    assert dataset.train.unique().tolist() == [255]


def test_flips_mirror_about_half_of_the_images_of_a_batch() -> None:
    """The generator draws which, so that the same seed mirrors the same images."""
    pixels = torch.arange(1000 * 2, dtype=torch.int64).view(1000, 1, 1, 2)
    batches = [flipped(pixels, torch.Generator().manual_seed(seed)) for seed in (0, 0, 1)]
    is_mirrored = (batches[0] != pixels).flatten(1).all(1)

    assert 400 < int(is_mirrored.sum()) < 600
    assert torch.equal(batches[0][is_mirrored], pixels[is_mirrored].flip(-1))
    assert torch.equal(batches[0], batches[1])
    assert not torch.equal(batches[0], batches[2])
