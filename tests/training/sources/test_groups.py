"""Pictures of one group are never divided among the splits, and a validation folder is not trained on."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from training.data import Dataset, load_dataset
from training.errors import BadData, BadRecipe, DataNotFound
from training.recipe import Recipe, read_recipe
from training.sources.groups import draw_groups, groups_of

PEOPLE = 12
EACH = 5


@pytest.fixture
def people(tmp_path: Path) -> Path:
    """Five pictures of each of twelve people, by folder and by name; the grey value tells the person."""
    root = tmp_path / "people"
    for person in range(PEOPLE):
        (root / f"p{person}").mkdir(parents=True)
        for number in range(EACH):
            Image.new("L", (8, 8), 20 * person + number).save(root / f"p{person}" / f"p{person}_{number}.png")
    return root


def grouped(recipe_file: Path, *changes: str) -> Recipe:
    """The small recipe, changed."""
    return read_recipe(str(recipe_file), ["data.test_fraction=0.2", "data.validation_fraction=0.2", *changes])


def persons(pixels: torch.Tensor) -> set[int]:
    """The people in some pictures."""
    return {int(value) // 20 for value in pixels[:, 0, 0, 0]}


def splits(dataset: Dataset) -> list[torch.Tensor]:
    """The three splits."""
    return [dataset.train, dataset.validation, dataset.test]


@pytest.mark.parametrize("groups", ["folder", r"(p\d+)_\d+\.png$", r"^p\d+(?=/)"])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_no_group_is_in_two_splits(recipe_file: Path, people: Path, groups: str, seed: int) -> None:
    """A person is known by the folder, or by the name of the file; each split has about its part of the pictures."""
    dataset = load_dataset(grouped(recipe_file, f"seed={seed}", f"data.groups='{groups}'"), people)
    found = [persons(split) for split in splits(dataset)]

    assert sum(map(len, found)) == len(set.union(*found)) == PEOPLE
    assert sum(map(len, splits(dataset))) == PEOPLE * EACH
    assert [len(split) for split in splits(dataset)] == [40, 10, 10]  # a fifth is 12 pictures: two people


@pytest.mark.parametrize("seed", range(5))
def test_large_group_is_trained_on(seed: int) -> None:
    """A group with most of the pictures would leave nothing to learn from if it were drawn for the test."""
    groups = ["large"] * 80 + [f"small {number}" for number in range(20)]

    test, validation, rest = draw_groups("a place", groups, [10, 5], torch.Generator().manual_seed(seed))

    assert [len(test), len(validation), len(rest)] == [10, 5, 85]
    assert set(range(80)) <= set(rest.tolist())


def test_part_has_the_smallest_group_if_none_fits() -> None:
    """A split without an image could not be measured."""
    groups = ["a"] * 5 + ["b"] * 3 + ["c"] * 4

    test, validation, rest = draw_groups("a place", groups, [1, 1], torch.Generator().manual_seed(0))

    assert [sorted(part.tolist()) for part in (test, validation, rest)] == [[5, 6, 7], [8, 9, 10, 11], [0, 1, 2, 3, 4]]


def test_groups_are_drawn_by_the_seed(recipe_file: Path, people: Path) -> None:
    """The same seed draws the same people, and another seed others."""
    tests = [
        persons(load_dataset(grouped(recipe_file, f"seed={seed}", "data.groups=folder"), people).test)
        for seed in (0, 0, 1)
    ]

    assert tests[0] == tests[1] != tests[2]


def test_picture_that_the_pattern_does_not_match_is_a_group_of_its_own(tmp_path: Path) -> None:
    """The other pictures are still grouped."""
    names = {"train": ["a/p1_0.png", "b/p1_1.png", "c/other.png"]}

    assert groups_of(tmp_path, names, r"(p\d+)_") == {"train": ["p1", "p1", "train/c/other.png"]}


def test_picture_that_is_in_no_folder_is_a_group_of_its_own(tmp_path: Path) -> None:
    """A group of the other pictures has all of its folder, at any depth."""
    names = {"train": ["0.png", "1.png", "p1/a/2.png", "p1/a/3.png"], "test": ["0.png"]}

    assert groups_of(tmp_path, names, "folder") == {
        "train": ["train/0.png", "train/1.png", "p1/a", "p1/a"],
        "test": ["test/0.png"],
    }


@pytest.mark.parametrize("groups", ["folder", r"^p\d+(?=/)"])
def test_pictures_without_a_group_may_have_one_name_in_two_splits(recipe_file: Path, people: Path, groups: str) -> None:
    """Many data sets number the pictures of each split from 0."""
    for split in ("train", "test"):
        (people / split).mkdir()
        Image.new("L", (8, 8), 250).save(people / split / "0.png")
    for person in range(PEOPLE):
        (people / f"p{person}").rename(people / "train" / f"p{person}")

    dataset = load_dataset(grouped(recipe_file, f"data.groups='{groups}'"), people)

    assert persons(dataset.test) == {12}
    assert sum(map(len, splits(dataset))) == PEOPLE * EACH + 2
    assert not persons(dataset.train) & persons(dataset.validation)


def test_path_begins_below_the_folder_of_the_split(recipe_file: Path, people: Path) -> None:
    """An expression with the name of that folder does not match, and the error shows a path that could."""
    (people / "test").mkdir()
    (people / "p0").rename(people / "train")
    Image.new("L", (8, 8), 250).save(people / "test" / "t.png")

    with pytest.raises(BadData, match=r"does not match the path of any picture, such as \w+\.png"):
        load_dataset(grouped(recipe_file, "data.groups='^train/(p0)'"), people)
    with pytest.raises(BadData, match=r"data\.groups=folder does not match the path of any picture, such as \w+\.png"):
        load_dataset(grouped(recipe_file, "data.groups=folder"), people)


def test_pattern_that_matches_nothing_is_an_error(recipe_file: Path, people: Path) -> None:
    """The error names a path, so that the user can see how it looks."""
    with pytest.raises(BadData, match=r"does not match the path of any picture, such as p0/p0_0\.png"):
        load_dataset(grouped(recipe_file, "data.groups='person-(.*)'"), people)


def test_pattern_that_is_not_one_is_an_error_of_the_recipe(recipe_file: Path) -> None:
    """The error comes before any work."""
    with pytest.raises(BadRecipe, match=r"data\.groups.* is neither the word folder nor a regular expression"):
        grouped(recipe_file, "data.groups='(p'")


def test_too_few_groups_are_an_error(recipe_file: Path, people: Path) -> None:
    """One group for all pictures leaves nothing to train on."""
    with pytest.raises(BadData, match=r"its pictures are in 1 group \(p\), too few"):
        load_dataset(grouped(recipe_file, "data.groups='(p)'"), people)


def test_group_in_two_splits_of_the_data_is_an_error(recipe_file: Path, people: Path) -> None:
    """The user has divided the pictures by folders, and one person is in two of them."""
    (people / "test" / "p3").mkdir(parents=True)
    (people / "train").mkdir()
    for person in range(PEOPLE):
        (people / f"p{person}").rename(people / "train" / f"p{person}")
    Image.new("L", (8, 8), 63).save(people / "test" / "p3" / "new.png")

    with pytest.raises(BadData, match="test and train both have pictures of the group p3"):
        load_dataset(grouped(recipe_file, "data.groups=folder"), people)


def test_validation_folder_chooses_and_is_not_trained_on(recipe_file: Path, people: Path) -> None:
    """All other pictures are divided into training and test."""
    dataset = load_dataset(grouped(recipe_file, "data.validation=p7"), people)

    assert persons(dataset.validation) == {7}
    assert 7 not in persons(dataset.train) | persons(dataset.test)
    assert sum(map(len, splits(dataset))) == PEOPLE * EACH


def test_validation_folder_that_is_missing_is_named(recipe_file: Path, people: Path) -> None:
    """A run without it would choose its weights by other pictures."""
    with pytest.raises(DataNotFound, match=r"p70: data\.validation names it"):
        load_dataset(grouped(recipe_file, "data.validation=p70"), people)


@pytest.mark.parametrize("change", ["data.validation=held", "data.groups=folder"])
def test_arrays_have_no_folders(recipe_file: Path, tmp_path: Path, change: str) -> None:
    """A key that did nothing would be in the card."""
    np.save(tmp_path / "array.npy", np.zeros((30, 8, 8), np.uint8))

    with pytest.raises(BadData, match="is for folders of pictures"):
        load_dataset(grouped(recipe_file, change), tmp_path / "array.npy")
