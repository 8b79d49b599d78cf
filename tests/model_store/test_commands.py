"""`python -m model_store` as a person calls it."""

import signal
import sys
from pathlib import Path

import pytest

from model_store import Metric, ModelVersion, Store
from model_store.__main__ import main

from ..conftest import make_model
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
