"""`python -m model_store` as a person calls it."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from model_store import Metric, ModelVersion, Store
from model_store.__main__ import main

from ..conftest import make_model
from ..process import customized
from ..signalled import signalled
from .test_verify import flip_byte


def run(store: Store, *arguments: str, capsys: pytest.CaptureFixture[str]) -> tuple[int, str]:
    """Run a command; return its exit status and its output."""
    status = main([*arguments, "--store", str(store.root)])
    return status, capsys.readouterr().out


def test_list_shows_a_row_for_each_version(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    """A row shows name, shapes, size and score."""
    status, text = run(store, "list", capsys=capsys)

    assert status == 0
    assert all(word in text for word in ("grey@1", "colour@1", "1×8×8", "2×4×4", "-91.5"))


def test_list_is_not_cut_without_a_terminal(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    """A pipe has no width: long names stay whole, in one line."""
    name = "a" * 64
    store.publish(name, make_model())

    _, text = run(store, "list", capsys=capsys)

    (line,) = (line for line in text.splitlines() if line.startswith(f"{name}@1"))
    assert line.split()[-1] == f"{store.card(store.resolve(name)).created:%Y-%m-%d}"


def test_list_of_the_shipped_models_fits_into_80_columns(capsys: pytest.CaptureFixture[str]) -> None:
    """A terminal of 80 columns shows the table whole."""
    _, text = run(Store(), "list", capsys=capsys)

    assert max(map(len, text.splitlines())) <= 80


def test_list_of_an_empty_store_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """An empty table would say nothing."""
    assert run(Store(tmp_path), "list", capsys=capsys) == (0, f"No models in {tmp_path}.\n")


def test_list_marks_the_default_model(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    """The list marks the version that answers requests without a model's name."""
    _, text = run(store, "list", capsys=capsys)

    assert [line.split()[0] for line in text.splitlines() if "(default)" in line] == ["colour@1"]


def test_folder_that_looks_like_a_version_is_told(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    """The list, the verification and the error all give the reason."""
    store.folder(ModelVersion("grey", 1)).rename(store.root / "grey" / "v1")
    reason = "grey/v1: 'v1' is not a version"

    assert reason in run(store, "list", capsys=capsys)[1]
    assert reason in run(store, "show", "grey", capsys=capsys)[1]
    status, text = run(store, "verify", capsys=capsys)
    assert (status, "✗ grey/v1  'v1' is not a version" in text, "sound versions: 1 of 2" in text) == (1, True, True)


def test_default_model_is_chosen_and_printed(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    """The command writes the choice for every service on this store."""
    assert run(store, "default", "grey", capsys=capsys) == (0, "grey\n")
    assert run(store, "default", capsys=capsys) == (0, "grey\n")


def test_default_that_cannot_be_written_is_told_in_one_sentence(
    store: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    """A folder in the place of the file is named, with the remedy."""
    (store.root / "_default").unlink()
    (store.root / "_default").mkdir()

    status, text = run(store, "default", "grey", capsys=capsys)

    assert (status, text.count("\n")) == (1, 1)
    assert text.startswith(f"Cannot make grey the default model: the file {store.root / '_default'} must be written")


def test_missing_choice_of_a_default_model_is_an_error(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    """The error says how to choose."""
    (store.root / "_default").unlink()

    status, text = run(store, "default", capsys=capsys)

    assert status == 1
    assert "the store has colour, grey" in text
    assert "python -m model_store default NAME" in text


def test_store_is_listed_as_one_json_document(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    """A program learns of each version what people learn of it, and why a folder is not a version."""
    store.publish("grey", make_model())
    store.set_alias(ModelVersion("grey", 2), "stable")
    (store.root / "grey" / "1").rename(store.root / "grey" / "v1")
    (store.root / ".aliases-colour").write_text("damaged")

    status, text = run(store, "list", "--json", capsys=capsys)

    listed = json.loads(text)
    colour, grey = listed["versions"]
    card = store.card(ModelVersion("grey", 2))
    assert status == 0
    assert grey == {
        "name": "grey",
        "version": 2,
        "created": card.created.isoformat(),
        "family": "vae",
        "image_shape": [1, 8, 8],
        "latent_shape": [3],
        "parameters": card.weights.parameters,
        "bytes": card.weights.bytes,
        "fault": None,
        "aliases": ["stable"],
        "is_default": False,
    }
    assert (colour["aliases"], colour["is_default"]) == ([], True)
    assert [entry["name"] for entry in listed["unusable_aliases"]] == ["colour"]
    assert [entry["path"] for entry in listed["misplaced"]] == ["grey/v1"]


def test_json_document_has_the_reason_of_a_broken_card(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    """Its facts are null, and the other versions have theirs."""
    card = store.folder(ModelVersion("colour", 1)) / "card.json"
    card.chmod(0o644)
    card.write_text("{}")

    colour, grey = json.loads(run(store, "list", "--json", capsys=capsys)[1])["versions"]

    assert colour["fault"].startswith(f"Cannot read the card {card}")
    assert (colour["name"], colour["version"], colour["parameters"]) == ("colour", 1, None)
    assert grey["fault"] is None


def test_list_marks_the_aliases(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    """They stand behind the version, with the default."""
    store.set_alias(ModelVersion("colour", 1), "stable")
    store.set_alias(ModelVersion("colour", 1), "canary")

    assert "colour@1 (default, @canary, @stable)" in run(store, "list", capsys=capsys)[1]


def test_alias_is_made_moved_promoted_rolled_back_and_removed(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    """Each command prints what the alias means now; `show` and `verify` take it as a reference."""
    for _ in range(2):
        store.publish("grey", make_model())

    def told(*arguments: str) -> str:
        status, text = run(store, *arguments, capsys=capsys)
        assert status == 0
        return text

    assert told("alias", "grey@1", "stable") == "grey@stable means grey@1\n"
    assert told("promote", "grey@stable", "2") == "grey@stable means grey@2; before: grey@1\n"
    assert told("promote", "grey@stable") == "grey@stable means grey@3; before: grey@2, grey@1\n"
    assert told("rollback", "grey@stable") == "grey@stable means grey@2; before: grey@1\n"
    assert told("alias", "grey@stable", "canary") == "grey@canary means grey@2\n"
    assert told("alias", "grey") == "grey@canary means grey@2\ngrey@stable means grey@2; before: grey@1\n"
    assert told("alias") == told("alias", "grey")
    assert told("show", "grey@stable").startswith("grey@2  ")
    assert "✓ grey@2" in told("verify", "grey@stable")
    assert told("default", "grey@stable") == "grey@stable\n"
    assert told("alias", "--remove", "grey@canary") == "grey@canary is removed.\n"
    assert told("alias", "grey") == "grey@stable means grey@2; before: grey@1\n"
    assert "python -m model_store default NAME" in told("alias", "--remove", "grey@stable")
    assert told("alias", "colour") == "No aliases of colour.\n"


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (("promote", "grey@stable"), "grey has no alias stable; it has no aliases. Make one: "),
        (("rollback", "grey@stable"), "grey has no alias stable"),
        (("alias", "--remove", "grey@stable"), "grey has no alias stable"),
        (("promote", "grey@1"), "'grey@1' is not an alias."),
        (("rollback", "grey"), "'grey' is not an alias."),
        (("alias", "grey", "2"), "'2' is not an alias."),
        (("alias", "gray"), "No model gray; there is colour@1, grey@1."),
        (("alias", "../grey"), "'../grey' is not the name of a model."),
        (("delete", "grey"), "grey is not deleted: only a version with its number is, as in mnist@1."),
        (("delete", "grey@7"), "No model grey@7; there is colour@1, grey@1."),
        (("show", "grey@stable"), "No model grey@stable; there is colour@1, grey@1. stable is not an alias of grey"),
    ],
)
def test_command_that_cannot_be_done_says_why_in_one_line(
    store: Store, arguments: tuple[str, ...], reason: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """The store stays as it is."""
    before = sorted(store.root.rglob("*"))

    status, text = run(store, *arguments, capsys=capsys)

    assert (status, text.count("\n")) == (1, 1)
    assert text.startswith(reason)
    assert sorted(store.root.rglob("*")) == before


def test_damaged_aliases_are_a_fault_of_the_store(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    """The lists go on with everything else, and `verify` and `alias` say with their status that something is wrong."""
    store.set_alias(ModelVersion("colour", 1), "stable")
    (store.root / ".aliases-grey").write_text("damaged")
    reason = f"The file {store.root}/.aliases-grey must hold the aliases of a model, but it is not JSON."

    for command, expected, status in (
        ("list", "colour@1 (default, @stable)", 0),
        ("verify", "sound versions: 2 of 2", 1),
        ("alias", "colour@stable means colour@1", 1),
    ):
        found, text = run(store, command, capsys=capsys)
        assert (found, expected in text, reason in text) == (status, True, True)


def test_alias_of_a_version_that_is_gone_is_listed_with_that_word(
    store: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    """The version was removed by hand."""
    version = store.publish("grey", make_model())
    store.set_alias(version, "stable")
    store.folder(version).rename(store.root / ".away")

    assert run(store, "alias", capsys=capsys)[1] == "grey@stable means grey@2, which is not in the store\n"


def test_copy_prints_the_new_name(store: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The name alone, for scripts; a bare name is the newest version, and an alias its version."""
    second = store.publish("grey", make_model(seed=1))
    store.set_alias(ModelVersion("grey", 1), "stable")
    other = tmp_path / "other"

    assert run(store, "copy", "grey", "--to", str(other), capsys=capsys) == (0, "grey@1\n")
    assert run(store, "copy", "grey@stable", "--to", str(other), "--as", "digits", capsys=capsys) == (0, "digits@1\n")
    assert Store(other).card(ModelVersion("grey", 1)) == store.card(second)
    assert Store(other).card(ModelVersion("digits", 1)) == store.card(ModelVersion("grey", 1))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_copy_leaves_nothing(store: Store, tmp_path: Path, number: signal.Signals) -> None:
    """Ctrl-C in the middle of a large file removes what was written of it."""
    code = f"import os, shutil\nshutil.copyfileobj = lambda *_: os.kill(os.getpid(), {int(number)})\n"
    other = tmp_path / "other"
    result = subprocess.run(
        [sys.executable, "-m", "model_store", "copy", "grey", "--to", str(other), "--store", str(store.root)],
        env={**os.environ, "PYTHONPATH": customized(tmp_path, code)},
        capture_output=True,
        text=True,
        check=False,
    )

    assert (result.returncode, result.stdout, result.stderr) == (128 + number, "", "")
    assert os.listdir(other) == []


def test_deletion_says_what_is_lost(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    """The consequences are told before a refusal too; with force the version is deleted."""
    version = store.publish("grey", make_model())
    store.set_alias(version, "stable")
    lost = "Without grey@2: grey@stable would name nothing.\nWithout grey@2: grey would then mean grey@1.\n"

    status, text = run(store, "delete", "grey@2", capsys=capsys)
    assert (status, text.startswith(f"{lost}grey@2 is not deleted: it is grey@stable.")) == (1, True)
    assert run(store, "delete", "grey@2", "--force", capsys=capsys) == (0, f"{lost}grey@2 is deleted.\n")
    assert store.versions("grey") == [ModelVersion("grey", 1)]


def test_version_that_nothing_names_is_deleted_at_once(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    """No question is asked."""
    store.publish("grey", make_model())

    assert run(store, "delete", "grey@1", capsys=capsys) == (0, "grey@1 is deleted.\n")


def test_card_without_metrics_has_no_table_of_them(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    """An empty table would say nothing."""
    assert "protocol" not in run(store, "show", "colour", capsys=capsys)[1]


def test_number_without_a_unit_has_none(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    """The unit of a plain number is "1" in a card and is not shown."""
    store.publish("blue", make_model(), metrics=[Metric(name="mse", value=0.25, unit="1", protocol="none")])

    _, text = run(store, "show", "blue", capsys=capsys)

    (line,) = (line for line in text.splitlines() if line.startswith("mse"))
    assert line.split() == ["mse", "0.25", "none"]


def test_show_prints_the_card_and_the_protocol_of_each_number(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    """Each number stands beside the way in which it was measured."""
    status, text = run(store, "show", "grey", capsys=capsys)

    assert status == 0
    assert all(word in text for word in ("grey@1", "elbo_nats", "none, the weights are random"))


def test_verify_passes_a_sound_store(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    """The command reads every version as the service does."""
    status, text = run(store, "verify", capsys=capsys)

    assert (status, "sound versions: 2 of 2" in text) == (0, True)


def test_verify_names_the_broken_version(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    """The others are still checked, and the exit status says that something is wrong."""
    flip_byte(store.folder(ModelVersion("colour", 1)) / "weights.safetensors")

    status, text = run(store, "verify", capsys=capsys)

    assert status == 1
    assert "✗ colour@1" in text
    assert "✓ grey@1" in text
    assert "sound versions: 1 of 2" in text


def test_broken_card_is_shown_in_the_list(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    """One bad card does not hide the others."""
    card = store.folder(ModelVersion("colour", 1)) / "card.json"
    card.chmod(0o644)
    card.write_text("{}")

    status, text = run(store, "list", capsys=capsys)

    assert status == 0
    assert "broken" in text
    assert "grey@1" in text


def test_unknown_model_is_an_error_in_one_line(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    """The error lists the models of the store."""
    status, text = run(store, "show", "blue", capsys=capsys)

    assert status == 1
    assert text.strip() == "No model blue; there is colour@1, grey@1."


def test_missing_store_is_an_error_in_one_line(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    """The command prints one line and no traceback."""
    status, text = run(Store(store.root / "nowhere"), "list", capsys=capsys)

    assert status == 1
    assert text.count("\n") == 1


@pytest.mark.parametrize("module", ["argparse", "rich.console", "torch"])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signal_ends_a_command_without_a_traceback(
    store: Store, tmp_path: Path, module: str, number: signal.Signals
) -> None:
    """The imports take seconds, and large stores take minutes to verify."""
    command = [sys.executable, "-m", "model_store", "verify", "--store", str(store.root)]
    result = signalled(command, number, tmp_path, module)

    assert (result.returncode, result.stdout, result.stderr) == (128 + number, "", "")
