"""Folders that do not fit into the memory are read into files of a cache, and give the same images as in memory."""

import errno
import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NoReturn

import numpy as np
import pytest
import torch
from PIL import Image

from model_store import Store
from training.__main__ import main
from training.data import Dataset, load_dataset
from training.errors import BadData
from training.recipe import Recipe, read_recipe
from training.sources import folder, mapped

PICTURES = 60


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """Sixty small pictures, two of each group, of which two are broken."""
    root, random = tmp_path / "pictures", np.random.default_rng(0)
    root.mkdir()
    for number in range(PICTURES):
        pixels = random.integers(0, 256, (8, 8), np.uint8)
        Image.fromarray(pixels).save(root / f"g{number // 2}_{number}.png")
    for number in (7, 31):
        (root / f"g{number // 2}_{number}.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    return root


@pytest.fixture
def no_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine that has no memory for all pictures: ten are in memory at once."""
    monkeypatch.setattr("training.sources.folder.memory_shortage", lambda _: "takes too much")
    monkeypatch.setattr("training.sources.mapped._PIECE_BYTES", 640)


def load(recipe: Recipe, pictures: Path, cache: Path) -> Dataset:
    """The images of a recipe."""
    return load_dataset(recipe, pictures, cache=cache)


def watch(patch: pytest.MonkeyPatch, at_most: int = 1000) -> list[Path]:
    """The pictures that are opened from now on; the process is stopped at the one after the first `at_most`."""
    opened: list[Path] = []
    read = folder.read_picture

    def watched(path: Path, *more: Any) -> Any:
        opened.append(path)
        if len(opened) > at_most:
            raise KeyboardInterrupt
        return read(path, *more)

    patch.setattr(folder, "read_picture", watched)
    return opened


def leave_free(patch: pytest.MonkeyPatch, free_bytes: int) -> None:
    """Let every disk have that much room."""
    patch.setattr("shutil.disk_usage", lambda _: SimpleNamespace(free=free_bytes))


def is_mapped(pixels: torch.Tensor) -> bool:
    """Whether pixels are in a file of this process' map of memory."""
    address = pixels.data_ptr()
    for line in Path("/proc/self/maps").read_text().splitlines():
        low, high = (int(text, 16) for text in line.split()[0].split("-"))
        if low <= address < high:
            return line.endswith(".bin")
    return False


def only_folder(cache: Path) -> Path:
    """The folder of the cache's only set of pixels."""
    (found,) = (cache / "pixels").iterdir()
    return found


@pytest.mark.parametrize(
    "changes", [[], ["data.invert=true"], [r"data.groups='(g\d+)_'"]], ids=["plain", "inverted", "grouped"]
)
def test_mapped_images_are_those_in_memory(
    recipe_file: Path, pictures: Path, tmp_path: Path, changes: list[str], request: pytest.FixtureRequest
) -> None:
    """The splits, their order and so the hash of the card do not depend on the memory of the machine."""
    recipe = read_recipe(str(recipe_file), changes)
    in_memory = load(recipe, pictures, tmp_path / "cache")
    request.getfixturevalue("no_memory")

    in_files = load(recipe, pictures, tmp_path / "cache")

    assert in_files.summary() == in_memory.summary()
    assert len(in_files.train) + len(in_files.validation) + len(in_files.test) == PICTURES - 2
    splits = (in_files.train, in_files.validation, in_files.test)
    assert all(map(is_mapped, splits))
    assert not is_mapped(in_memory.train)


@pytest.mark.usefixtures("no_memory")
def test_second_run_does_not_read_the_pictures_again(
    recipe: Recipe, pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Only the broken pictures are opened again, for the warnings; the disk may be full by then."""
    first = load(recipe, pictures, tmp_path / "cache").summary()
    opened = watch(monkeypatch)
    leave_free(monkeypatch, 0)
    capsys.readouterr()

    assert load(recipe, pictures, tmp_path / "cache").summary() == first
    assert sorted(path.name for path in opened) == ["g15_31.png", "g3_7.png"]
    said = " ".join(capsys.readouterr().out.split())
    assert "Skipped 2 of 60 pictures" in said
    assert f"their pixels are kept in {only_folder(tmp_path / 'cache')}" in said


@pytest.mark.usefixtures("no_memory")
@pytest.mark.parametrize("rest", [b"", b"half a picture"], ids=["between", "torn"])
def test_reading_goes_on_where_it_was_stopped(
    recipe: Recipe, pictures: Path, tmp_path: Path, rest: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A kill leaves the pictures up to the last progress, and perhaps a part of the next ones."""
    whole = load(recipe, pictures, tmp_path / "other").summary()

    with monkeypatch.context() as patch:
        watch(patch, at_most=35)
        with pytest.raises(KeyboardInterrupt):
            load(recipe, pictures, tmp_path / "cache")
    with open(only_folder(tmp_path / "cache") / "pictures.bin", "ab") as file:
        file.write(rest)
    opened = watch(monkeypatch)

    assert load(recipe, pictures, tmp_path / "cache").summary() == whole
    assert len(set(opened)) <= PICTURES - 30 + 2


@pytest.mark.usefixtures("no_memory")
@pytest.mark.parametrize("damage", ["pictures.bin", "progress.json"])
def test_damaged_cache_is_made_again(recipe: Recipe, pictures: Path, tmp_path: Path, damage: str) -> None:
    """A file that was cut off, or that another program wrote, is not believed."""
    whole = load(recipe, pictures, tmp_path / "cache").summary()
    place = only_folder(tmp_path / "cache")
    for split in place.glob("t*.bin"):
        split.unlink()
    (place / damage).write_bytes(b"{}")

    assert load(recipe, pictures, tmp_path / "cache").summary() == whole


@pytest.mark.usefixtures("no_memory")
def test_changed_picture_and_changed_rules_make_other_pixels(recipe_file: Path, pictures: Path, tmp_path: Path) -> None:
    """The name of the folder is a hash of the pictures' paths, sizes and times, and of the rules."""
    cache = tmp_path / "cache"
    first = load(read_recipe(str(recipe_file)), pictures, cache).summary().sha256
    other = load(read_recipe(str(recipe_file), ["data.invert=true"]), pictures, cache).summary().sha256
    Image.new("L", (8, 8), 77).save(pictures / "g0_0.png")
    changed = load(read_recipe(str(recipe_file)), pictures, cache).summary().sha256

    assert len({first, other, changed}) == len(list((cache / "pixels").iterdir())) == 3


@pytest.mark.usefixtures("no_memory")
def test_cache_without_room_is_an_error_before_any_work(
    recipe: Recipe, pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The remedy is another cache."""
    leave_free(monkeypatch, 10)

    with pytest.raises(BadData, match=r"take 7,680 bytes in the cache .*cache, where 10 are free; name another cache"):
        load(recipe, pictures, tmp_path / "cache")


@pytest.mark.usefixtures("no_memory")
def test_stopped_reading_needs_room_for_the_rest_alone(
    recipe: Recipe, pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The file has 29 pictures of 64 bytes and a broken one; 30 more, and the 60 of the splits, are to be written."""
    with monkeypatch.context() as patch:
        watch(patch, at_most=35)
        with pytest.raises(KeyboardInterrupt):
            load(recipe, pictures, tmp_path / "cache")

    leave_free(monkeypatch, 5759)
    with pytest.raises(BadData, match="take 5,760 bytes"):
        load(recipe, pictures, tmp_path / "cache")
    leave_free(monkeypatch, 5760)
    assert load(recipe, pictures, tmp_path / "cache").train.shape[1:] == (1, 8, 8)


@pytest.mark.usefixtures("no_memory")
def test_missing_split_needs_room_for_its_images(
    recipe: Recipe, pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another seed divides the pixels, which are all there, in another way."""
    load(recipe, pictures, tmp_path / "cache")
    leave_free(monkeypatch, 10)

    with pytest.raises(BadData, match=r"Cannot use pictures: its pixels .* take 3,136 bytes in the cache"):
        load(recipe.model_copy(update={"seed": 4}), pictures, tmp_path / "cache")


@pytest.mark.usefixtures("no_memory")
def test_disk_that_becomes_full_is_one_line(
    recipe_file: Path,
    pictures: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The pictures that were saved are kept for the next run."""

    def full(_: mapped.PixelFile) -> NoReturn:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(mapped.PixelFile, "save", full)
    places = ["--store", str(tmp_path / "store"), "--runs", str(tmp_path / "runs"), "--cache", str(tmp_path / "cache")]

    assert main([str(recipe_file), "--data", str(pictures), *places]) == 1
    assert "No space left on device" in capsys.readouterr().out


@pytest.mark.usefixtures("no_memory")
def test_model_is_trained_on_mapped_pixels(recipe_file: Path, pictures: Path, tmp_path: Path) -> None:
    """Training, validation, the test and the figures only read them."""
    places = ["--store", str(tmp_path / "store"), "--runs", str(tmp_path / "runs"), "--cache", str(tmp_path / "cache")]
    changes = ["--set", "model.likelihood.kind=gaussian", "data.flips=true"]

    assert main([str(recipe_file), "--data", str(pictures), *places, *changes]) == 0
    assert [str(version) for version in Store(tmp_path / "store").versions()] == ["bars@1"]


@pytest.mark.usefixtures("no_memory")
def test_resumed_run_finds_the_pixels_of_a_relative_place(
    recipe_file: Path, pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The run remembers the absolute path of its images; only the broken pictures are opened again."""
    monkeypatch.chdir(tmp_path)
    places = ["--store", "store", "--runs", "runs", "--cache", "cache"]
    assert main([str(recipe_file), "--data", pictures.name, *places, "--hours", "0.0000001"]) == 0
    (run,) = Path("runs").iterdir()
    opened = watch(monkeypatch)

    assert main(["--resume", str(run), "--hours", "1"]) == 0
    assert {path.name for path in opened} == {"g15_31.png", "g3_7.png"}
    assert only_folder(tmp_path / "cache").is_dir()
