"""Versions are copied whole or not at all, and deleted in one step; a number is never given twice."""

import errno
import multiprocessing
import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from model_store import (
    CannotDelete,
    CorruptWeights,
    InvalidName,
    ModelNotFound,
    ModelVersion,
    Store,
    UnusableAliases,
    UnusableNumber,
)
from model_store import store as store_module
from model_store.files import open_file
from model_store.places import folder as place_module

from ..conftest import make_model
from .test_verify import flip_byte

GREY_1, GREY_2 = ModelVersion("grey", 1), ModelVersion("grey", 2)


@pytest.fixture
def other(tmp_path: Path) -> Store:
    """A store that is not there yet."""
    return Store(tmp_path / "volume" / "other")


@pytest.fixture
def two(store: Store) -> Store:
    """The store with a second version of grey."""
    shutil.copytree(store.folder(GREY_1), store.folder(GREY_2))
    return store


def contents(store: Store, version: ModelVersion) -> dict[str, bytes]:
    """The files of a version."""
    return {file.name: file.read_bytes() for file in store.folder(version).iterdir()}


def test_copy_has_all_files_of_the_version(store: Store, other: Store) -> None:
    """The store is made, and the copy is its first version."""
    version = store.publish("grey", make_model(), files={"samples.png": b"picture"}, run="a run")

    copied = store.copy(version, other)

    assert copied == GREY_1
    assert contents(other, copied) == contents(store, version)
    assert other.load(copied).card == store.card(version)


def test_copy_takes_the_next_number_of_its_name(store: Store, other: Store) -> None:
    """The number of a version that was deleted there is not given again."""
    names = [str(store.copy(GREY_1, other)), str(store.copy(GREY_1, other, "digits"))]
    other.delete(GREY_1)

    assert [*names, str(store.copy(GREY_1, other))] == ["grey@1", "digits@1", "grey@2"]


def test_copy_into_the_same_store_is_another_version(store: Store) -> None:
    """An old version becomes the newest one again."""
    assert store.copy(GREY_1, store) == GREY_2
    assert contents(store, GREY_2) == contents(store, GREY_1)


def test_copied_files_have_the_modes_of_published_ones(store: Store, other: Store) -> None:
    """The original may have been copied by hand, with a narrow umask."""
    for file in store.folder(GREY_1).iterdir():
        file.chmod(0o600)

    folder = other.folder(store.copy(GREY_1, other))

    assert {file.stat().st_mode & 0o777 for file in folder.iterdir()} == {0o444}
    assert folder.stat().st_mode & 0o777 == 0o755


def test_name_that_no_model_can_have_is_refused_before_a_folder_is_made(store: Store, other: Store) -> None:
    """The name never becomes a path."""
    with pytest.raises(InvalidName):
        store.copy(GREY_1, other, "../grey")
    assert not other.root.exists()


def test_broken_original_is_named_and_leaves_no_copy(store: Store, other: Store) -> None:
    """The message names the original's file and not the copy, which is removed."""
    flip_byte(store.folder(GREY_1) / "weights.safetensors")

    with pytest.raises(CorruptWeights, match=f"{store.folder(GREY_1)}/weights"):
        store.copy(GREY_1, other)
    assert os.listdir(other.root) == []


def test_copy_that_lost_a_byte_is_removed(store: Store, other: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """The original is sound, so the message names the copy."""
    write = place_module.write_folder

    def lossy(folder: Path, files: dict[str, Any]) -> Path:
        written = write(folder, files)
        flip_byte(written / "weights.safetensors")
        return written

    monkeypatch.setattr(place_module, "write_folder", lossy)

    with pytest.raises(CorruptWeights, match=r"other/grey/\.incoming-1"):
        store.copy(GREY_1, other)
    assert os.listdir(other.root) == []


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (os.mkfifo, "not a regular file"),
        (os.mkdir, "not a regular file"),
        (lambda path: os.symlink("/etc/hostname", path), "symbolic link"),
    ],
    ids=["pipe", "folder", "link"],
)
def test_version_with_something_that_is_not_a_file_is_not_copied(
    store: Store, other: Store, make: Callable[[Path], None], reason: str
) -> None:
    """A copy without it would not be whole. Nothing is waited for, and nothing outside the version is read."""
    make(store.folder(GREY_1) / "extra")

    with pytest.raises(OSError, match=reason):
        store.copy(GREY_1, other)
    assert os.listdir(other.root) == []


def test_copy_into_a_full_store_leaves_nothing(store: Store, other: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """A half copy would take space on the full disk."""

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(shutil, "copyfileobj", full)

    with pytest.raises(OSError, match=r"No space left.*\.incoming-1-.*/"):
        store.copy(GREY_1, other)
    assert os.listdir(other.root) == []


def do_and_die(work: Callable[[], object], holder: Any, step: str) -> None:
    """Do something, but be killed when the named step is taken."""
    setattr(holder, step, lambda *_, **__: os.kill(os.getpid(), signal.SIGKILL))
    work()


def copy_and_die(source: Path, target: Path, step: str) -> None:
    """Copy a version, but be killed at a step; runs in a process of its own."""
    holder = {"copyfileobj": shutil, "_read": store_module, "rename": Path}[step]
    do_and_die(lambda: Store(source).copy(GREY_1, Store(target)), holder, step)


@pytest.mark.parametrize("step", ["copyfileobj", "_read", "rename"])
def test_killed_copy_never_appears_and_the_next_one_removes_it(store: Store, other: Store, step: str) -> None:
    """Readers see nothing of it."""
    process = multiprocessing.get_context("spawn").Process(target=copy_and_die, args=(store.root, other.root, step))
    process.start()
    process.join()

    assert process.exitcode == -signal.SIGKILL
    assert other.versions() == []
    copied = store.copy(GREY_1, other)
    assert os.listdir(other.root / "grey") == [str(copied.number)]


def test_deleted_version_is_gone_and_its_number_is_not_given_again(two: Store) -> None:
    """The store is of an older release, or its versions were copied by hand: it has not remembered the number."""
    (two.root / ".last-grey").unlink()
    two.delete(GREY_2)

    assert two.versions("grey") == [GREY_1]
    assert os.listdir(two.root / "grey") == ["1"]
    assert str(two.publish("grey", make_model())) == "grey@3"


def test_last_version_of_a_model_can_be_deleted(store: Store) -> None:
    """The number is remembered without it."""
    store.delete(GREY_1)

    assert store.publish("grey", make_model()) == GREY_2


def test_reader_that_has_opened_a_version_reads_on_when_it_is_deleted(two: Store) -> None:
    """A service may be reading the weights at this moment."""
    path = two.folder(GREY_2) / "weights.safetensors"
    expected = path.read_bytes()
    with open_file(path) as file:
        beginning = file.read(100)
        two.delete(GREY_2)
        rest = file.read()

    assert beginning + rest == expected


def test_link_to_a_version_is_deleted_and_not_the_version(store: Store) -> None:
    """The files belong to another place."""
    (store.root / "grey" / "2").symlink_to(store.folder(GREY_1))
    store.delete(GREY_2)

    assert store.versions("grey") == [GREY_1]
    assert store.load(GREY_1)


def test_version_that_is_not_there_cannot_be_deleted(store: Store) -> None:
    """No folder is made for the model."""
    for version in (GREY_2, ModelVersion("blue", 1)):
        with pytest.raises(ModelNotFound):
            store.delete(version)
    assert not (store.root / "blue").exists()


def test_version_that_an_alias_names_is_not_deleted(two: Store) -> None:
    """The remedies are in the message; with force, its aliases go and the others stay."""
    for alias, version in (("canary", GREY_2), ("next", GREY_2), ("stable", GREY_1)):
        two.set_alias(version, alias)

    with pytest.raises(
        CannotDelete, match=r"it is grey@canary, grey@next\. Let .* alias grey@VERSION canary; .*--force"
    ):
        two.delete(GREY_2)
    assert GREY_2 in two.versions()

    two.delete(GREY_2, force=True)
    assert two.versions("grey") == [GREY_1]
    assert sorted(two.aliases_of("grey").aliases) == ["stable"]


def test_version_that_an_alias_named_before_is_deleted(two: Store) -> None:
    """A refusal protects only the version that is named now."""
    two.set_alias(GREY_2, "stable")
    two.set_alias(GREY_1, "stable")

    two.delete(GREY_2)
    assert two.resolve("grey@stable") == GREY_1


def test_version_that_is_the_default_is_not_deleted(two: Store) -> None:
    """With force it is; the choice stays, so that no other model answers in its place."""
    two.choose_default("grey@2")

    with pytest.raises(
        CannotDelete, match=r"it is the default model\. Choose another first: .*default NAME; or .*--force"
    ):
        two.delete(GREY_2)

    two.delete(GREY_2, force=True)
    assert two.default() == "grey@2"


@pytest.mark.parametrize(
    ("file", "error"), [(".aliases-grey", UnusableAliases), (".last-grey", UnusableNumber)], ids=["aliases", "number"]
)
def test_version_is_not_deleted_while_a_file_about_it_is_damaged(two: Store, file: str, error: type[Exception]) -> None:
    """An alias could name it, or its number could be given again."""
    (two.root / file).write_text("damaged")

    with pytest.raises(error):
        two.delete(GREY_2, force=True)
    assert GREY_2 in two.versions()


def test_consequences_of_a_deletion_are_told(two: Store) -> None:
    """Aliases, the name alone, and the default model, each where it is concerned."""
    assert two.consequences(GREY_1) == []
    assert two.consequences(GREY_2) == ["grey would then mean grey@1."]

    two.set_alias(GREY_2, "stable")
    two.choose_default("grey@stable")
    assert two.consequences(GREY_2) == [
        "grey@stable would name nothing.",
        "The default model grey@stable would be missing: requests that name no model would get 404.",
        "grey would then mean grey@1.",
    ]


def test_consequences_for_the_only_version_of_the_default_model_are_told(store: Store) -> None:
    """The default is colour, whose only version is colour@1."""
    assert store.consequences(ModelVersion("colour", 1)) == [
        "The default model colour would be missing: requests that name no model would get 404.",
        "colour would have no version.",
    ]


def delete_and_die(root: Path, step: str) -> None:
    """Delete a version, but be killed at a step; runs in a process of its own."""
    holder = {"rename": Path, "rmtree": shutil}[step]
    do_and_die(lambda: Store(root).delete(GREY_2), holder, step)


@pytest.mark.parametrize(("step", "there"), [("rename", [GREY_1, GREY_2]), ("rmtree", [GREY_1])])
def test_killed_deletion_leaves_a_whole_version_or_none(two: Store, step: str, there: list[ModelVersion]) -> None:
    """The next command removes the files that are left."""
    process = multiprocessing.get_context("spawn").Process(target=delete_and_die, args=(two.root, step))
    process.start()
    process.join()

    assert process.exitcode == -signal.SIGKILL
    assert two.versions("grey") == there
    assert all(two.load(version) for version in there)
    assert str(two.publish("grey", make_model())) == "grey@3"
    assert sorted(os.listdir(two.root / "grey")) == [*(str(version.number) for version in there), "3"]
