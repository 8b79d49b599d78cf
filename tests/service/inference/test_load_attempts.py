"""A version that ends the process while it is loaded is refused at the next start but one; others are served."""

import os
import time
from multiprocessing import get_context
from pathlib import Path

import pytest
import structlog

from model_store import Card, ModelVersion, Store
from service.inference.load_attempts import FORGOTTEN_S, EndsProcess, LoadAttempts
from service.telemetry import logs

GREY = ModelVersion("grey", 1)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The folder of the cache, which does not exist yet."""
    return tmp_path / "cache"


@pytest.fixture
def card(store: Store) -> Card:
    """The card of grey@1."""
    return store.card(GREY)


def load(folder: Path, card: Card) -> None:
    """Load a version without trouble."""
    with LoadAttempts(folder).attempt(GREY, card, "cpu"):
        pass


def end_process(folder: Path, card: Card, device: str) -> None:
    """Load a version, and end the process as SIGKILL would."""
    with LoadAttempts(folder).attempt(GREY, card, device):
        os._exit(9)


def die(folder: Path, card: Card, device: str = "cpu") -> None:
    """Load a version in a process that does not survive it."""
    process = get_context("fork").Process(target=end_process, args=(folder, card, device))
    process.start()
    process.join()


def test_version_that_ended_two_processes_is_refused(folder: Path, card: Card) -> None:
    """The message names the file to delete, but not its folder, which clients must not learn."""
    die(folder, card)
    die(folder, card)
    (file,) = folder.iterdir()

    for _ in range(2):
        with pytest.raises(EndsProcess, match=f"ended 2 times in a row .* delete the file {file.name} in the") as error:
            load(folder, card)
    assert str(folder) not in str(error.value)
    file.unlink()
    load(folder, card)


def test_version_whose_process_was_killed_once_is_tried_again(folder: Path, card: Card) -> None:
    """An operator may have killed the process. Afterwards the death is forgotten."""
    for _ in range(3):
        die(folder, card)
        load(folder, card)

    assert list(folder.iterdir()) == []


def test_process_that_is_asked_to_end_has_not_been_ended_by_a_version(folder: Path, card: Card) -> None:
    """Two quick restarts of an orchestrator took the model away for a day."""
    attempts = LoadAttempts(folder)
    with attempts.attempt(GREY, card, "cpu"):
        attempts.withdraw()
        assert not [*folder.iterdir()]
    attempts.withdraw()  # nothing is left to withdraw

    load(folder, card)


def test_error_while_loading_is_not_a_death(folder: Path, card: Card) -> None:
    """A signal that ends the process in order, for instance, cancels the loading."""
    for _ in range(3):
        with pytest.raises(KeyboardInterrupt), LoadAttempts(folder).attempt(GREY, card, "cpu"):
            raise KeyboardInterrupt

    assert list(folder.iterdir()) == []


def test_version_that_is_loaded_by_several_processes_has_not_ended_one(folder: Path, card: Card) -> None:
    """Workers that share the folder load a new version at the same time."""
    with LoadAttempts(folder).attempt(GREY, card, "cpu"):
        for _ in range(3):
            load(folder, card)
        assert len(list(folder.iterdir())) == 1
    assert list(folder.iterdir()) == []


def test_deaths_of_another_version_do_not_count(folder: Path, card: Card) -> None:
    """A version is known by its card, which has the hash of the weights; another device is another case too."""
    die(folder, card)
    die(folder, card)

    load(folder, card.model_copy(update={"warnings": ("another",)}))
    with LoadAttempts(folder).attempt(GREY, card, "cuda"):
        pass


@pytest.mark.parametrize("age_s", [FORGOTTEN_S + 1, -FORGOTTEN_S - 1], ids=["old", "from the future"])
def test_deaths_are_forgotten_after_a_day(folder: Path, card: Card, age_s: float) -> None:
    """An operator who killed two starts must not lose a good version."""
    die(folder, card)
    die(folder, card)
    (file,) = folder.iterdir()
    os.utime(file, (time.time() - age_s,) * 2)

    load(folder, card)


def make_link(file: Path) -> None:
    """Put a link to another file in the file's place."""
    file.symlink_to(file.parent / "other")


@pytest.mark.parametrize("make", [Path.mkdir, os.mkfifo, make_link], ids=["folder", "pipe", "link"])
def test_something_else_in_the_place_of_the_file_is_left_alone(folder: Path, card: Card, make: object) -> None:
    """The version is loaded, and nothing is remembered."""
    assert callable(make)
    die(folder, card)
    (file,) = folder.iterdir()
    file.unlink()
    make(file)

    logs.configure("warning", "auto")
    with structlog.testing.capture_logs() as lines:
        load(folder, card)

    assert [line["event"] for line in lines] == ["a version that ends the process is not remembered"]
    assert [path.name for path in folder.iterdir()] == [file.name]


def test_folder_that_cannot_be_written_is_said_once(card: Card) -> None:
    """In a container the folder is often read-only; all versions are loaded there."""
    attempts = LoadAttempts(Path(os.devnull))

    logs.configure("warning", "auto")
    with structlog.testing.capture_logs() as lines:
        for _ in range(3):
            with attempts.attempt(GREY, card, "cpu"):
                pass

    assert [line["remedy"] for line in lines] == ["set cache to a folder that can be written"]
