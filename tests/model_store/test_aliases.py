"""Aliases: names for versions that are moved and rolled back, in a file that strangers may have changed."""

import json
import multiprocessing
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from model_store import (
    Aliases,
    AliasNotFound,
    CannotChooseDefault,
    CorruptWeights,
    InvalidAlias,
    ModelNotFound,
    ModelVersion,
    NoEarlierVersion,
    Store,
    TooManyAliases,
    UnusableAliases,
)
from model_store.aliases import MAX_ALIASES, MAX_ALIASES_BYTES, MAX_EARLIER, parse_aliases

from .test_verify import flip_byte

GREY_1, GREY_2 = ModelVersion("grey", 1), ModelVersion("grey", 2)


@pytest.fixture
def two(store: Store) -> Store:
    """The store with a second version of grey."""
    shutil.copytree(store.folder(GREY_1), store.folder(GREY_2))
    return store


def test_alias_is_a_reference(two: Store) -> None:
    """The alias names its version, also when newer ones are published."""
    two.set_alias(GREY_1, "stable")

    assert two.resolve("grey@stable") == GREY_1
    assert two.resolve("grey") == GREY_2


def test_moved_alias_names_the_other_version_and_remembers_the_first(two: Store) -> None:
    """To name the same version again changes nothing."""
    for version in (GREY_1, GREY_2, GREY_2):
        two.set_alias(version, "stable")

    assert two.resolve("grey@stable") == GREY_2
    assert two.alias_history("grey", "stable") == [GREY_1, GREY_2]


def test_alias_goes_back_to_the_version_before(two: Store) -> None:
    """A second step back has no version to go to, and the alias stays."""
    two.set_alias(GREY_1, "stable")
    two.set_alias(GREY_2, "stable")

    assert two.roll_back("grey", "stable") == GREY_1
    with pytest.raises(NoEarlierVersion, match=r"grey@stable cannot go back.*alias grey@VERSION stable"):
        two.roll_back("grey", "stable")
    assert two.resolve("grey@stable") == GREY_1


def test_alias_does_not_go_back_to_a_version_that_was_removed(two: Store) -> None:
    """The alias passes over grey@2, and over the version that it names already."""
    shutil.copytree(two.folder(GREY_1), two.folder(ModelVersion("grey", 3)))
    for number in (1, 3, 2, 3):
        two.set_alias(ModelVersion("grey", number), "stable")
    shutil.rmtree(two.folder(GREY_2))

    assert two.roll_back("grey", "stable") == GREY_1


def test_removed_alias_names_nothing(two: Store) -> None:
    """The other aliases stay."""
    two.set_alias(GREY_1, "stable")
    two.set_alias(GREY_2, "canary")
    two.remove_alias("grey", "stable")

    with pytest.raises(
        ModelNotFound, match=r"No model grey@stable; .*\. stable is not an alias of grey: .*model_store"
    ):
        two.resolve("grey@stable")
    assert two.resolve("grey@canary") == GREY_2


def test_alias_that_is_not_there_cannot_be_changed(store: Store) -> None:
    """The error says which aliases there are, and how to make one. No folder is made for an unknown model."""
    store.set_alias(GREY_1, "stable")

    for change in (store.roll_back, store.remove_alias, store.alias_history):
        with pytest.raises(AliasNotFound, match=r"grey has no alias stables; it has the aliases stable\. Make one: "):
            change("grey", "stables")
        with pytest.raises(AliasNotFound, match="it has no aliases"):
            change("blue", "stable")
    assert not (store.root / "blue").exists()


@pytest.mark.parametrize("alias", ["", "2", "Stable", "-a", ".a", "_a", "a/b", "a@b", "a b", "ä", "a" * 65, "a\n"])
def test_text_that_is_not_an_alias_is_refused(store: Store, alias: str) -> None:
    """A number is never an alias, and neither is a path."""
    with pytest.raises(InvalidAlias, match="begins with a lower-case letter"):
        store.set_alias(GREY_1, alias)


@pytest.mark.parametrize("alias", ["a", "latest", "v1.0-rc_2", "tEST", "a" * 64])
def test_texts_that_may_be_aliases(store: Store, alias: str) -> None:
    """Letters, digits and three signs, after a lower-case letter."""
    store.set_alias(GREY_1, alias)

    assert store.resolve(f"grey@{alias}") == GREY_1


def test_alias_of_a_version_that_was_removed_by_hand_is_not_found(two: Store) -> None:
    """The error says which version the alias names."""
    two.set_alias(GREY_2, "stable")
    shutil.rmtree(two.folder(GREY_2))

    with pytest.raises(ModelNotFound, match=r"No model grey@stable; there is .*grey@1\. grey@stable names grey@2"):
        two.resolve("grey@stable")


def test_version_that_cannot_be_read_gets_no_alias(two: Store) -> None:
    """A service could not serve it; the alias stays where it was."""
    two.set_alias(GREY_1, "stable")
    flip_byte(two.folder(GREY_2) / "weights.safetensors")

    with pytest.raises(CorruptWeights):
        two.set_alias(GREY_2, "stable")
    assert two.resolve("grey@stable") == GREY_1


def test_version_that_is_not_there_gets_no_alias(store: Store) -> None:
    """The store stays as it is, and no folder is made."""
    for version in (GREY_2, ModelVersion("blue", 1)):
        with pytest.raises(ModelNotFound):
            store.set_alias(version, "stable")
    assert sorted(os.listdir(store.root)) == [".last-colour", ".last-grey", "_default", "colour", "grey"]


def test_alias_can_be_the_default(two: Store) -> None:
    """The default follows the alias; an alias that is not there is refused."""
    two.set_alias(GREY_1, "stable")
    two.choose_default("grey@stable")
    assert (two.default(), two.resolve(two.default())) == ("grey@stable", GREY_1)

    two.set_alias(GREY_2, "stable")
    assert two.resolve(two.default()) == GREY_2
    with pytest.raises(ModelNotFound):
        two.choose_default("grey@canary")


def test_alias_of_a_broken_version_does_not_become_the_default(two: Store) -> None:
    """Another version of the model is sound, but the alias does not name it."""
    two.set_alias(GREY_2, "stable")
    flip_byte(two.folder(GREY_2) / "weights.safetensors")

    with pytest.raises(CannotChooseDefault, match="Cannot make grey@stable the default model"):
        two.choose_default("grey@stable")


UNUSABLE = {
    "empty": b"",
    "binary": b"\xff\xfe",
    "deep": b"[" * 100_000,
    "list": b"[1]",
    "newer": b'{"format":2,"aliases":{}}',
    "no-format": b'{"aliases":{}}',
    "unknown-member": b'{"format":1,"aliases":{},"x":1}',
    "path": b'{"format":1,"aliases":{"../a":[1]}}',
    "upper-case": b'{"format":1,"aliases":{"A":[1]}}',
    "no-number": b'{"format":1,"aliases":{"a":[]}}',
    "text": b'{"format":1,"aliases":{"a":["1"]}}',
    "zero": b'{"format":1,"aliases":{"a":[0]}}',
    "boolean": b'{"format":1,"aliases":{"a":[true]}}',
    "fraction": b'{"format":1,"aliases":{"a":[1.5]}}',
    "endless-number": b'{"format":1,"aliases":{"a":[' + b"9" * 5000 + b"]}}",
    "long-history": b'{"format":1,"aliases":{"a":[' + b"1," * 101 + b"1]}}",
    "escape": b'{"format":1,"aliases":{"\\u001b[31m":[true]}}',
    "large": b" " * (MAX_ALIASES_BYTES + 1),
}


@pytest.mark.parametrize("content", UNUSABLE.values(), ids=UNUSABLE)
def test_file_that_holds_something_else_is_an_error_of_its_own_model(store: Store, content: bytes) -> None:
    """The error repeats none of the content. Versions and the aliases of other models are not touched by it."""
    store.set_alias(ModelVersion("colour", 1), "stable")
    (store.root / ".aliases-grey").write_bytes(content)

    with pytest.raises(UnusableAliases, match=r"\.aliases-grey must hold the aliases .*Delete it, and make") as error:
        store.resolve("grey@stable")
    assert len(str(error.value).replace(str(store.root), "")) < 250
    assert str(error.value).isprintable()
    assert store.resolve("grey") == GREY_1
    assert store.resolve("colour@stable") == ModelVersion("colour", 1)
    found, faults = store.aliases()
    assert ([*found], [*faults]) == (["colour"], ["grey"])


@pytest.mark.parametrize(
    "make", [os.mkfifo, os.mkdir, lambda path: os.symlink(path, path)], ids=["pipe", "folder", "loop"]
)
def test_thing_in_the_place_of_the_file_is_an_error(store: Store, make: Callable[[Path], None]) -> None:
    """A pipe is not waited for."""
    make(store.root / ".aliases-grey")

    with pytest.raises(UnusableAliases):
        store.aliases_of("grey")


def test_damaged_file_is_not_written_over(store: Store) -> None:
    """An operator may still mend it by hand."""
    (store.root / ".aliases-grey").write_text("{")

    with pytest.raises(UnusableAliases):
        store.set_alias(GREY_1, "stable")
    assert (store.root / ".aliases-grey").read_text() == "{"


def test_file_is_small_json_that_other_users_can_read(store: Store) -> None:
    """The format is a promise: the numbers that each alias has named, the present one last."""
    store.set_alias(GREY_1, "stable")
    file = store.root / ".aliases-grey"

    assert json.loads(file.read_text()) == {"format": 1, "aliases": {"stable": [1]}}
    assert file.stat().st_mode & 0o777 == 0o644


def test_longest_file_that_is_written_can_be_read() -> None:
    """The most aliases with the longest names and histories take less than the bound."""
    history = tuple(range(999_999_999, 999_999_998 - MAX_EARLIER, -1))
    fullest = Aliases(aliases={f"{number:a>64}": history for number in range(MAX_ALIASES)})
    text = fullest.to_json().encode()

    assert len(text) <= MAX_ALIASES_BYTES
    assert parse_aliases(Path("fullest"), text) == fullest
    with pytest.raises(TooManyAliases, match=f"grey has {MAX_ALIASES} aliases.*alias --remove"):
        fullest.moved("grey", "another", 1)


def test_alias_forgets_the_oldest_of_very_many_versions() -> None:
    """A model that is published each hour would make the file larger each hour."""
    aliases = Aliases()
    for number in range(1, MAX_EARLIER + 50):
        aliases = aliases.moved("grey", "stable", number)

    assert aliases.history("grey", "stable") == tuple(range(49, MAX_EARLIER + 50))


def set_some(root: Path, prefix: str, times: int) -> None:
    """Make several aliases; runs in a process of its own."""
    for number in range(times):
        Store(root).set_alias(GREY_1, f"{prefix}{number}")


def test_commands_at_the_same_time_lose_no_alias(store: Store) -> None:
    """Two processes make ten aliases each."""
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=set_some, args=(store.root, prefix, 10)) for prefix in "ab"]
    for process in processes:
        process.start()
    for process in processes:
        process.join()

    assert sorted(store.aliases_of("grey").aliases) == sorted(
        f"{prefix}{number}" for prefix in "ab" for number in range(10)
    )
