"""`python -m training` as a user runs it, from the recipe to the published version."""

import gzip
import io
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from model_store import Store
from training.__main__ import main
from training.evaluate.__main__ import main as evaluate
from training.recipe import Recipe
from training.sources import idx


def test_run_publishes_a_version_that_says_where_it_is_from(
    call: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The card has the recipe, the data and its hash, the seed, the commit's place, and metrics with their protocol."""
    assert main(call) == 0
    stored = Store(tmp_path / "the store").load(Store(tmp_path / "the store").resolve("bars@1"))
    training, metrics = stored.card.training, {metric.name: metric for metric in stored.card.metrics}

    assert training is not None
    assert Recipe.model_validate(training.recipe, strict=False).optimiser.learning_rate == 1e-2
    assert (training.data.name, training.data.train_images, training.seed) == ("idx", 380, 3)
    assert (training.epochs, 1 <= training.best_epoch <= 3) == (3, True)
    assert "40 test images" in metrics["elbo_nats"].protocol
    assert metrics["elbo_nats"].value == pytest.approx(metrics["log_likelihood_nats"].value - metrics["kl_nats"].value)
    assert "curl 'localhost:8000/v1/models/bars/sample" in capsys.readouterr().out


def test_run_leaves_its_figures_with_the_version(call: list[str], tmp_path: Path) -> None:
    """Samples, reconstructions beside originals, curves: pictures large enough to look at."""
    main(call)
    folder = tmp_path / "the store" / "bars" / "1"
    sizes = {path.name: Image.open(io.BytesIO(path.read_bytes())).size for path in folder.glob("*.png")}

    assert sizes.keys() == {"samples.png", "reconstructions.png", "curves.png"}
    assert all(min(size) >= 256 for size in sizes.values())


def test_second_run_publishes_the_next_version(call: list[str], tmp_path: Path) -> None:
    """A published version is never overwritten."""
    main([*call, "--set", "epochs=1"])
    main([*call, "--set", "epochs=1", "name=bars"])

    assert [str(version) for version in Store(tmp_path / "the store").versions()] == ["bars@1", "bars@2"]


def test_run_is_not_resumed_with_other_data(
    call: list[str], idx_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The card could not name the data set of such a model."""
    main([*call, "--set", "epochs=1"])
    (run,) = (tmp_path / "the runs").iterdir()
    (idx_folder / "t10k-images-idx3-ubyte.gz").unlink()

    assert main(["--resume", str(run), "--store", str(tmp_path / "elsewhere")]) == 1
    assert "was begun with images of SHA-256" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        pytest.param(["--set", "epochs=0"], "epochs must be at least 1, not 0", id="recipe"),
        pytest.param(["--data", "/nowhere"], "No images in /nowhere: it does not exist.", id="data"),
        pytest.param(["--data", "/proc/version"], "it is a file, but neither .npy nor .npz", id="file"),
        pytest.param(["--set", "name=\udce9"], r"--set 'name=\udce9' is not UTF-8; use a terminal", id="latin-1"),
        pytest.param(["--set", "name=.x"], "as in mnist@1.\n", id="one-full-stop"),
        pytest.param(["--data", "/no[/b]where"], "No images in /no[/b]where", id="markup"),
        pytest.param(["--device", "abacus"], "This machine has no device 'abacus'", id="device"),
        pytest.param(["--store", "/proc/none"], "/proc/none", id="store"),
    ],
)
def test_what_cannot_work_is_one_line_before_any_work(
    call: list[str], changes: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """The error is one line, not a traceback after an hour of training."""
    assert main([*call, *changes]) == 1

    assert message in capsys.readouterr().out


@pytest.mark.parametrize(
    ("command", "flag"),
    [
        (main, "--data"),
        (main, "--runs"),
        (main, "--cache"),
        (main, "--resume"),
        (evaluate, "--data"),
        (evaluate, "--cache"),
    ],
    ids=lambda value: getattr(value, "__module__", value).partition(".__")[0],
)
def test_empty_path_is_refused(
    command: Callable[[list[str]], int],
    flag: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """An unset variable of a shell gives an empty text, which must not mean the current folder."""
    monkeypatch.chdir(tmp_path)  # so that nothing is trained on, and published, where this test fails

    with pytest.raises(SystemExit, match="2"):
        command(["mnist", "--data", "missing", flag, ""])

    assert f"argument {flag}: the path is empty" in capsys.readouterr().err


@pytest.mark.parametrize(
    "call",
    [
        [],
        ["mnist", "--resume", "runs/x"],
        ["--resume", "runs/x", "--set", "epochs=1"],
        ["--resume", "runs/x", "--download"],
    ],
    ids=str,
)
def test_recipe_and_run_exclude_each_other(call: list[str]) -> None:
    """A run keeps its own recipe."""
    with pytest.raises(SystemExit, match="2"):
        main(call)


def test_data_set_is_downloaded_without_a_run(
    recipe_file: Path, idx_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A container without a network trains on what another one has downloaded into the same cache."""
    cache = tmp_path / "cache"
    (cache / "mnist").mkdir(parents=True)
    (cache / "mnist" / idx.TRAIN).write_bytes((idx_folder / idx.TRAIN).read_bytes())
    (cache / "mnist" / idx.TEST).write_bytes(gzip.decompress((idx_folder / f"{idx.TEST}.gz").read_bytes()))

    status = main([str(recipe_file), "--download", "--cache", str(cache), "--runs", str(tmp_path / "runs")])

    assert status == 0
    assert f"mnist is in {cache / 'mnist'}" in " ".join(capsys.readouterr().out.split())
    assert not (tmp_path / "runs").exists()


def test_recipe_without_a_source_has_nothing_to_download(recipe_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The error names the data sets that can be downloaded."""
    recipe_file.write_text(recipe_file.read_text().replace('source = "mnist"', ""))

    assert main([str(recipe_file), "--download"]) == 1

    assert "mnist or fashion-mnist" in " ".join(capsys.readouterr().out.split())


def test_log_file_has_no_escape_sequences(call: list[str]) -> None:
    """Many build systems set FORCE_COLOR; a log file still has no bars and no colours."""
    environment = {**os.environ, "FORCE_COLOR": "1"}
    done = subprocess.run(
        [sys.executable, "-m", "training", *call, "--set", "epochs=1"], capture_output=True, check=True, env=environment
    )

    assert b"Published bars@1" in done.stdout
    assert b"\x1b" not in done.stdout
