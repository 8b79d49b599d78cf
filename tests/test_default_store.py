"""`LATENTD_STORE` is the store of every command that names none; an empty one counts as not set."""

from collections.abc import Callable
from pathlib import Path

import pytest

from model_store import DEFAULT_ROOT, Store, store_folder
from model_store.__main__ import main as look
from service.__main__ import read_settings
from training.__main__ import main as train
from training.evaluate.__main__ import main as evaluate
from training.fit_prior import main as fit_prior

from .training.conftest import SMALL, bars, idx_bytes


@pytest.fixture
def named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that the environment names as the store."""
    folder = tmp_path / "named"
    monkeypatch.setenv("LATENTD_STORE", str(folder))
    return folder


@pytest.fixture
def empty(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty setting, in a current folder that must stay as it is."""
    monkeypatch.setenv("LATENTD_STORE", "")
    monkeypatch.chdir(tmp_path)


def test_training_publishes_there_and_evaluation_and_list_read_there(
    named: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The three commands of the container's volume, without a container."""
    (tmp_path / "bars.toml").write_text(SMALL)
    (data := tmp_path / "data").mkdir()
    (data / "train-images-idx3-ubyte").write_bytes(idx_bytes(bars(100)))
    recipe, runs = str(tmp_path / "bars.toml"), str(tmp_path / "runs")

    assert train([recipe, "--data", str(data), "--runs", runs, "--set", "epochs=1"]) == 0
    assert [str(version) for version in Store(named).versions()] == ["bars@1"]
    assert evaluate(["bars", "--data", str(data), "--images", "2", "--importance-samples", "1"]) == 0
    assert look(["list"]) == 0
    assert "bars@1" in capsys.readouterr().out


def test_service_reads_there(named: Path) -> None:
    """The service reads its settings in another way, but by the same rule."""
    assert read_settings([]).store == named


def test_flag_wins(named: Path, tmp_path: Path) -> None:
    """In every command, the flag `--store` wins over the environment."""
    assert read_settings(["--store", str(tmp_path)]).store == store_folder(tmp_path) == tmp_path


@pytest.mark.usefixtures("empty")
def test_empty_setting_counts_as_not_set(capsys: pytest.CaptureFixture[str]) -> None:
    """An empty path would be the current folder, whose files would be served."""
    assert store_folder() == read_settings([]).store == DEFAULT_ROOT
    assert look(["list"]) == 0
    assert "mnist@1" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("command", "arguments"),
    [(look, ["list", "--help"]), (train, ["--help"]), (evaluate, ["--help"]), (fit_prior, ["--help"])],
    ids=["model_store", "training", "evaluate", "fit_prior"],
)
@pytest.mark.usefixtures("named")
def test_help_says_where_the_default_comes_from(
    command: Callable[[list[str]], int], arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    """The help names the setting and its present value."""
    with pytest.raises(SystemExit, match="0"):
        command(arguments)
    said = capsys.readouterr().out
    assert "LATENTD_STORE" in said
