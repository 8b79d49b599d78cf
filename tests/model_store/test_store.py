"""The store: versions appear whole or not at all, never change, and are found by name."""

import errno
import multiprocessing
import os
import shutil
import signal
import stat
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

from model_store import (
    CannotChooseDefault,
    CorruptWeights,
    InvalidName,
    ModelNotFound,
    ModelVersion,
    NoDefault,
    NoNumberLeft,
    Store,
    StoreNotFound,
    UnusableDefault,
    UnusableNumber,
    VersionExists,
)
from model_store import store as store_module
from model_store.places import folder as place_module
from model_store.places.folder import Listing

from ..conftest import COLOUR, make_model
from .test_verify import flip_byte


def test_published_model_is_read_back_exactly(store: Store) -> None:
    """Every weight survives the way to the disk and back."""
    model = make_model(COLOUR, seed=5)

    read = store.load(store.publish("again", model)).model

    assert read.config == model.config
    assert all(torch.equal(read.state_dict()[name], tensor) for name, tensor in model.state_dict().items())


def test_loaded_model_is_for_inference(store: Store) -> None:
    """The model is in evaluation mode, and no parameter has a gradient."""
    model = store.load(store.resolve("grey")).model

    assert not model.training
    assert not any(parameter.requires_grad for parameter in model.parameters())


def test_versions_are_counted_per_model(store: Store) -> None:
    """Each publication takes the next number of its own name."""
    store.publish("grey", make_model())

    assert store.versions() == [ModelVersion("colour", 1), ModelVersion("grey", 1), ModelVersion("grey", 2)]


def test_bare_name_means_the_newest_version(store: Store) -> None:
    """Ten is newer than nine."""
    shutil.copytree(store.folder(ModelVersion("grey", 1)), store.folder(ModelVersion("grey", 9)))
    store.publish("grey", make_model())

    assert str(store.resolve("grey")) == "grey@10"
    assert str(store.resolve("grey@9")) == "grey@9"


@pytest.mark.parametrize("reference", ["blue", "grey@7"])
def test_unknown_model_is_not_found(store: Store, reference: str) -> None:
    """The error lists the versions of the store."""
    with pytest.raises(ModelNotFound, match=f"No model {reference}; there is .*grey@1"):
        store.resolve(reference)


@pytest.mark.parametrize(
    "reference", ["", "..", "../grey", "grey/1", "grey@", "grey@0", "grey@01", "grey@-1", "a" * 65, "a\n"]
)
def test_text_that_is_not_a_name_never_becomes_a_path(store: Store, reference: str) -> None:
    """Only names and versions are looked up."""
    with pytest.raises(InvalidName):
        store.resolve(reference)


@pytest.mark.parametrize("make", [Path.touch, os.mkfifo, os.mkdir], ids=["file", "pipe", "folder"])
def test_number_that_something_else_has_is_passed_over(store: Store, make: Callable[[Path], None]) -> None:
    """A file of another program stays, and its number is not given."""
    place = store.folder(ModelVersion("grey", 2))
    make(place)

    assert str(store.publish("grey", make_model(seed=9))) == "grey@3"
    assert place.exists()


def test_file_that_takes_the_place_of_a_version_is_not_replaced(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another program wrote it while the version was checked; the next publication takes another number."""
    place = store.folder(ModelVersion("grey", 2))
    with monkeypatch.context() as patch:
        patch.setattr(store_module, "_read", lambda *_: place.write_text("mine"))
        with pytest.raises(VersionExists, match="Cannot publish grey@2: something is in its place"):
            store.publish("grey", make_model(seed=9))

    assert place.read_text() == "mine"
    assert sorted(os.listdir(place.parent)) == ["1", "2"]
    assert str(store.publish("grey", make_model())) == "grey@3"


@pytest.mark.parametrize("path", ["grey/2", "grey"], ids=["version", "model"])
def test_number_of_a_removed_version_is_not_given_again(store: Store, path: str) -> None:
    """Caches hold the answers of grey@2 for a year, even if the operator removed the whole model."""
    store.publish("grey", make_model())
    shutil.rmtree(store.root / path)

    assert str(Store(store.root).publish("grey", make_model(seed=9))) == "grey@3"


def test_number_of_a_version_that_is_removed_during_a_training_is_not_given_again(store: Store) -> None:
    """The store is of an older release, which did not remember numbers."""
    store.publish("grey", make_model())
    (store.root / ".last-grey").unlink()
    store.prepare("grey")
    shutil.rmtree(store.root / "grey" / "2")

    assert str(store.publish("grey", make_model())) == "grey@3"


def test_number_of_a_removed_version_is_not_given_again_after_a_kill(store: Store) -> None:
    """The publisher was killed as soon as the version had appeared."""
    process = multiprocessing.get_context("spawn").Process(target=publish_and_die, args=(store.root, "sync_folder", 3))
    process.start()
    process.join()
    assert [version.number for version in store.versions("grey")] == [1, 2]
    shutil.rmtree(store.folder(ModelVersion("grey", 2)))

    assert str(store.publish("grey", make_model())) == "grey@3"


def test_largest_number_is_an_error_with_a_remedy_before_an_hour_is_spent(store: Store) -> None:
    """The remedy works: the folder gets a smaller number."""
    (store.root / "grey" / "1").rename(store.root / "grey" / "999999999")

    for publish in (store.prepare, partial(store.publish, model=make_model())):
        with pytest.raises(NoNumberLeft, match=r"999999999 is the largest number .*grey/999999999 has it\. .* rename"):
            publish("grey")

    (store.root / "grey" / "999999999").rename(store.root / "grey" / "20261126")
    assert str(store.publish("grey", make_model())) == "grey@20261127"


@pytest.mark.parametrize("content", [b"", b"two", b"-1", b"0x2", b"9" * 80, b"9" * 200, b"\xff"])
def test_file_of_the_last_number_that_holds_something_else_is_an_error(store: Store, content: bytes) -> None:
    """To guess could give a number twice."""
    (store.root / ".last-grey").write_bytes(content)

    with pytest.raises(UnusableNumber, match=r"\.last-grey must hold the highest number .*; or delete it"):
        store.publish("grey", make_model())


@pytest.mark.parametrize(
    "make", [os.mkfifo, os.mkdir, lambda path: os.symlink(path, path)], ids=["pipe", "folder", "loop"]
)
def test_file_of_the_last_number_that_is_not_a_file_is_an_error(store: Store, make: Callable[[Path], None]) -> None:
    """A pipe is not waited for."""
    (store.root / ".last-grey").unlink()
    make(store.root / ".last-grey")

    with pytest.raises(UnusableNumber):
        store.publish("grey", make_model())


def test_files_of_other_programs_do_not_stop_a_publication(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """They stay; and so does an unfinished folder that may not be removed."""
    model = store.root / "grey"
    (model / ".incoming-x").touch()
    (model / ".incoming-2").touch()
    (model / ".incoming-3").symlink_to(store.root / "colour")
    (model / ".incoming-notes").mkdir()
    (model / ".incoming-4").mkdir()
    os.mkfifo(model / ".incoming-5")
    monkeypatch.setattr(os, "rmdir", refuse)
    before = sorted(os.listdir(model))

    assert str(store.publish("grey", make_model())) == "grey@2"
    assert sorted(os.listdir(model)) == sorted([*before, "2"])
    assert store.load(ModelVersion("colour", 1))


def refuse(*_: object, **__: object) -> None:
    """As a function that removes a folder of another user."""
    raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))


@pytest.mark.parametrize("umask", [0o077, 0o777, 0o000])
def test_published_files_can_be_read_by_all_users_and_written_by_none(tmp_path: Path, umask: int) -> None:
    """A service of another user can read what a trainer with a umask of 077 wrote, and the folders above it."""
    mask = os.umask(umask)
    try:
        store = Store(tmp_path / "volume" / "store")
        folder = store.folder(store.publish("grey", make_model()))
        store.choose_default("grey")
    finally:
        os.umask(mask)

    assert {mode(file) for file in folder.iterdir()} == {0o444}
    assert {mode(path) for path in (folder, folder.parent, store.root, store.root.parent)} == {0o755}
    assert {mode(store.root / name) for name in ("_default", ".last-grey")} == {0o644}


def mode(path: Path) -> int:
    """The permissions of a file or a folder."""
    return stat.S_IMODE(path.stat().st_mode)


def test_store_that_cannot_be_written_is_found_before_an_hour_is_spent(store: Store) -> None:
    """`prepare` writes where `publish` will write, and leaves nothing."""
    before = sorted((store.root / "grey").iterdir())
    store.prepare("grey")
    (store.root / "flat").touch()

    with pytest.raises(OSError, match="flat"):
        store.prepare("flat")
    assert sorted((store.root / "grey").iterdir()) == before


def test_figures_are_kept_beside_the_weights(store: Store) -> None:
    """A version has all files that are published with it."""
    version = store.publish("grey", make_model(), files={"samples.png": b"picture"})

    assert (store.folder(version) / "samples.png").read_bytes() == b"picture"


def test_readers_ignore_what_is_not_a_version(store: Store) -> None:
    """Hidden folders, files, and odd names of folders without a card are passed over."""
    (store.root / ".incoming-x").mkdir()
    (store.root / "grey" / ".incoming-2").mkdir()
    (store.root / "_old" / "1").mkdir(parents=True)
    (store.root / "@eaDir" / "1").mkdir(parents=True)
    (store.root / "grey" / "02").mkdir()
    (store.root / "grey" / "0").mkdir()
    (store.root / "grey" / "9999999999").mkdir()
    (store.root / "grey" / "notes").mkdir()
    (store.root / "grey" / "3").touch()
    shutil.copytree(store.root / "grey" / "1", store.root / "grey" / "_1")
    shutil.copytree(store.root / "grey", store.root / ".grey")

    assert store.versions() == [ModelVersion("colour", 1), ModelVersion("grey", 1)]
    assert store.misplaced() == {}


def test_links_to_folders_are_models_and_versions(store: Store, tmp_path: Path) -> None:
    """Kubernetes mounts the folders of a volume as links."""
    (store.root / "colour").rename(tmp_path / "elsewhere")
    (store.root / "colour").symlink_to(tmp_path / "elsewhere")
    (store.root / "grey" / "4").symlink_to(store.root / "grey" / "1")

    assert [str(version) for version in store.versions()] == ["colour@1", "grey@1", "grey@4"]
    assert store.load(store.resolve("colour")).card.model == COLOUR


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("grey/v1", "'v1' is not a version: rename the folder to a whole number, such as 1"),
        ("grey/01", "'01' is not a version"),
        ("my model/1", "'my model' is not the name of a model"),
        ("blue", "a version is a folder in it, such as blue/1"),
    ],
)
def test_folder_with_a_card_in_the_wrong_place_has_a_reason(store: Store, path: str, reason: str) -> None:
    """The folder looks like a version, but no reference names it."""
    shutil.copytree(store.root / "grey" / "1", store.root / path)

    assert [*store.misplaced()] == [path]
    assert store.misplaced()[path].startswith(reason)


@pytest.mark.parametrize("path", ["blue", "grey/2"])
@pytest.mark.parametrize("target", ["/nowhere/at/all", "."], ids=["nowhere", "loop"])
def test_link_that_leads_nowhere_has_a_reason(store: Store, path: str, target: str) -> None:
    """The link's volume is not mounted, or the link leads to itself."""
    link = store.root / path
    link.symlink_to(link if target == "." else target)

    assert store.versions() == [ModelVersion("colour", 1), ModelVersion("grey", 1)]
    assert store.misplaced() == {path: "it is a link that leads nowhere"}


def test_model_that_is_not_found_has_the_reason_of_its_folders(store: Store) -> None:
    """The folder of the only version has a name that is not a version's number."""
    (store.root / "grey" / "1").rename(store.root / "grey" / "v1")

    with pytest.raises(ModelNotFound, match=r"No model grey; there is colour@1\. grey/v1: 'v1' is not a version"):
        store.resolve("grey")


def test_default_model_is_the_chosen_one(store: Store) -> None:
    """Services of other users can read the choice; a later choice replaces it."""
    store.choose_default("grey")
    store.choose_default("grey@1")

    assert store.default() == "grey@1"
    assert mode(store.root / "_default") == 0o644
    assert sorted(os.listdir(store.root)) == [".last-colour", ".last-grey", "_default", "colour", "grey"]


def test_default_model_has_to_be_there_when_it_is_chosen(store: Store) -> None:
    """A mistyped name is an error, and the earlier choice stays."""
    with pytest.raises(ModelNotFound):
        store.choose_default("gray")

    assert store.default() == "colour"


@pytest.mark.parametrize("reference", ["grey", "grey@2"])
def test_model_that_cannot_be_read_does_not_become_the_default(store: Store, reference: str) -> None:
    """A service could not serve it; the earlier choice stays, and the command `verify` gives the reasons."""
    store.publish("grey", make_model())
    for number in (1, 2):
        flip_byte(store.folder(ModelVersion("grey", number)) / "weights.safetensors")

    with pytest.raises(CannotChooseDefault, match=f"Cannot make {reference} the default.*model_store verify"):
        store.choose_default(reference)
    assert store.default() == "colour"


def test_model_with_one_sound_version_may_become_the_default(store: Store) -> None:
    """The service replaces a broken version by an older one; but a version that is named must be sound itself."""
    flip_byte(store.folder(store.publish("grey", make_model())) / "weights.safetensors")

    store.choose_default("grey")
    with pytest.raises(CannotChooseDefault):
        store.choose_default("grey@2")
    assert store.default() == "grey"


@pytest.mark.parametrize("content", [b"", b"../colour", b"\xff", b"a" * 2000], ids=["empty", "path", "binary", "long"])
def test_file_of_the_default_model_that_names_no_model_is_an_error(store: Store, content: bytes) -> None:
    """The remedy is in the message."""
    (store.root / "_default").write_bytes(content)

    with pytest.raises(UnusableDefault, match="Write it again: python -m model_store default NAME"):
        store.default()


def test_links_that_lead_nowhere_are_not_offered_as_the_default(store: Store) -> None:
    """A dead link and a loop could not be chosen, though they keep the store from having a single model."""
    (store.root / "_default").unlink()
    shutil.rmtree(store.root / "colour")
    (store.root / "dead").symlink_to("nowhere")
    (store.root / "loop").symlink_to("loop")

    with pytest.raises(NoDefault, match=r"the store has grey\."):
        store.default()


def test_model_that_may_not_be_read_has_a_reason(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """The folder lost+found of a volume has no reason: its name is not the name of a model."""
    (store.root / "lost+found").mkdir()

    def guarded(folder: Path, read: Callable[[Path], object]) -> object:
        if folder.name in ("colour", "lost+found"):
            raise PermissionError(13, "Permission denied", str(folder))
        return read(folder)

    for name in ("scandir", "listdir"):
        monkeypatch.setattr(os, name, partial(guarded, read=getattr(os, name)))

    assert store.versions() == [ModelVersion("grey", 1)]
    assert store.misplaced() == {"colour": "it cannot be read: Permission denied"}


@pytest.mark.parametrize("path", ["/nowhere/at/all", __file__], ids=["nowhere", "a-file"])
def test_missing_store_is_named(path: str) -> None:
    """The remedy is in the message, and the reason is true for a file as well."""
    with pytest.raises(StoreNotFound, match=r"there is no such folder\. Name another with --store"):
        Store(Path(path)).versions()


def test_next_publisher_removes_the_folder_of_a_killed_one(store: Store) -> None:
    """The system releases the lock of a dead process, so an unfinished folder under the lock is abandoned."""
    abandoned = store.root / "grey" / ".incoming-2"
    abandoned.mkdir()
    (abandoned / "weights.safetensors").write_bytes(b"half")

    assert str(store.publish("grey", make_model())) == "grey@2"
    assert not abandoned.exists()


def test_unreadable_publication_never_appears(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """A version that does not read back, because the disk lost a byte, is not published."""
    write = place_module.write_folder

    def lossy(folder: Path, files: dict[str, bytes]) -> Path:
        return write(folder, {**files, "weights.safetensors": files["weights.safetensors"][:-1]})

    monkeypatch.setattr(place_module, "write_folder", lossy)

    with pytest.raises(CorruptWeights):
        store.publish("grey", make_model())
    assert store.versions("grey") == [ModelVersion("grey", 1)]


def test_publication_into_a_full_store_leaves_nothing(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """A half version would take space on the full disk until the next publication."""

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)

    with pytest.raises(OSError, match="No space left"):
        store.publish("grey", make_model())
    assert os.listdir(store.root / "grey") == ["1"]


@pytest.mark.parametrize("writes", range(6))
def test_disk_that_is_full_at_any_step_leaves_no_half_version(
    store: Store, writes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Card, weights, folder, last number: the version appears after all of them. The next publisher succeeds."""
    countdown, fsync = iter(range(writes)), os.fsync

    def full(descriptor: int) -> None:
        if next(countdown, None) is None:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        fsync(descriptor)

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(OSError, match="No space left"):
            store.publish("grey", make_model())

    assert all(store.load(version) for version in store.versions("grey"))
    assert [name for name in os.listdir(store.root / "grey") if name.startswith(".")] == []
    assert store.publish("grey", make_model()) > ModelVersion("grey", 1)


def test_store_that_is_read_only_is_served_and_not_written(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its models can be read; a publication, a choice and a run are refused with the reason of the system."""

    def read_only(*_: object, **__: object) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    for name in ("mkdir", "unlink", "rename", "replace"):
        monkeypatch.setattr(os, name, read_only)

    assert store.load(store.resolve("grey"))
    for publish in (store.prepare, partial(store.publish, model=make_model())):
        with pytest.raises(OSError, match="Read-only file system"):
            publish("grey")
    with pytest.raises(CannotChooseDefault, match="Read-only file system"):
        store.choose_default("grey")


def test_choice_that_cannot_be_written_leaves_nothing(store: Store) -> None:
    """The file that was written first is removed when it cannot take the place of the old one."""
    (store.root / "_default").unlink()
    (store.root / "_default").mkdir()

    with pytest.raises(CannotChooseDefault, match=r"_default must be written \(Is a directory\); move away a folder"):
        store.choose_default("grey")
    assert sorted(os.listdir(store.root)) == [".last-colour", ".last-grey", "_default", "colour", "grey"]


def publish_some(root: Path, times: int) -> None:
    """Publish several versions; runs in a process of its own."""
    for _ in range(times):
        Store(root).publish("grey", make_model())


def test_publishers_at_the_same_time_take_turns(store: Store) -> None:
    """Two processes publish three versions each: six new versions, all sound."""
    processes = [
        multiprocessing.get_context("spawn").Process(target=publish_some, args=(store.root, 3)) for _ in range(2)
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join()

    assert [version.number for version in store.versions("grey")] == list(range(1, 8))
    assert all(store.load(version) for version in store.versions("grey"))


def publish_and_die(root: Path, step: str, times: int = 1) -> None:
    """Publish, but be killed when the named step is taken that many times."""
    holders = {"rename": Path, "replace": Path, "_read": store_module}
    holder = holders.get(step, place_module)
    countdown, work = iter(range(times - 1)), getattr(holder, step)

    def step_or_die(*arguments: Any) -> Any:
        if next(countdown, None) is None:
            os.kill(os.getpid(), signal.SIGKILL)
        return work(*arguments)

    setattr(holder, step, step_or_die)
    Store(root).publish("grey", make_model())


@pytest.mark.parametrize(
    ("step", "following"),
    [
        ("write_folder", 2),
        ("sync_folder", 2),
        ("_read", 2),
        ("replace_file", 2),
        ("replace", 2),  # of the file with the last number
        ("rename", 3),
    ],
)
def test_kill_at_any_step_leaves_the_old_versions_and_no_half_one(store: Store, step: str, following: int) -> None:
    """Killed before, during or after the writing: readers see grey@1, and the next publisher succeeds."""
    process = multiprocessing.get_context("spawn").Process(target=publish_and_die, args=(store.root, step))
    process.start()
    process.join()

    assert process.exitcode == -signal.SIGKILL
    assert store.versions("grey") == [ModelVersion("grey", 1)]
    assert str(store.publish("grey", make_model())) == f"grey@{following}"
    assert sorted(os.listdir(store.root / "grey")) == ["1", str(following)]


@pytest.mark.parametrize("name", ["card.json", "weights.safetensors"])
def test_fingerprint_changes_with_the_files(store: Store, name: str) -> None:
    """A refused version is read again after its files were mended, though the copy has the same size and time."""
    version = ModelVersion("grey", 1)
    before = store.fingerprint(version)
    copy = shutil.copy2(store.folder(version) / name, store.folder(version) / "copy")
    Path(copy).replace(store.folder(version) / name)

    assert store.fingerprint(version) != before


@pytest.mark.parametrize("path", ["colour", "colour/1"])
@pytest.mark.parametrize("number", [errno.EACCES, errno.EIO, errno.ESTALE], ids=errno.errorcode.get)
def test_folder_that_cannot_be_read_now_is_listed_with_the_reason(
    store: Store, path: str, number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A service can tell it from a folder that was removed."""

    def guarded(folder: Path, *arguments: Any, read: Callable[..., Any], **more: Any) -> Any:
        if str(folder).endswith(path):
            raise OSError(number, os.strerror(number), str(folder))
        return read(folder, *arguments, **more)

    for name in ("listdir", "stat"):
        monkeypatch.setattr(os, name, partial(guarded, read=getattr(os, name)))

    assert store.listing() == Listing([ModelVersion("grey", 1)], {path: os.strerror(number)})


@pytest.mark.parametrize("make", [os.mkdir, os.mkfifo], ids=["folder", "pipe"])
def test_default_that_is_not_a_file_is_an_error(store: Store, make: Callable[[Path], None]) -> None:
    """A folder in its place is not taken for a store without a choice, and a pipe is not waited for."""
    (store.root / "_default").unlink()
    make(store.root / "_default")

    with pytest.raises(UnusableDefault, match="it is not a regular file"):
        store.default()


def test_what_another_program_left_does_not_get_the_default(store: Store, tmp_path: Path) -> None:
    """The file that becomes the default is new: nothing is written into a pipe or through a link."""
    other = tmp_path / "other"
    other.write_text("mine")
    (store.root / "._default.partial").symlink_to(other)

    store.choose_default("grey")

    assert (store.default(), other.read_text()) == ("grey", "mine")
