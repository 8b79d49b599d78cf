"""`python -m training` as a person calls it, from recipe to published version."""

import io
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from model_store import Store
from training.__main__ import main


def arguments(recipe_file: Path, idx_folder: Path, tmp_path: Path) -> list[str]:
    """A call that keeps everything in the test's own folder."""
    return [
        str(recipe_file),
        "--data",
        str(idx_folder),
        "--store",
        str(tmp_path / "store"),
        "--runs",
        str(tmp_path / "runs"),
    ]


@pytest.fixture
def call(recipe_file: Path, idx_folder: Path, tmp_path: Path) -> list[str]:
    """The call of most tests."""
    return arguments(recipe_file, idx_folder, tmp_path)


def test_run_publishes_a_version_that_says_where_it_is_from(
    call: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The card has the recipe, the data and its hash, the seed, the commit's place, and metrics with their protocol."""
    assert main(call) == 0
    stored = Store(tmp_path / "store").load(Store(tmp_path / "store").resolve("bars@1"))
    training, metrics = stored.card.training, {metric.name: metric for metric in stored.card.metrics}

    assert training is not None
    assert training.recipe["optimiser"]["learning_rate"] == 1e-2
    assert (training.data.name, training.data.train_images, training.seed) == ("idx", 380, 3)
    assert (training.epochs, 1 <= training.best_epoch <= 3) == (3, True)
    assert "40 test images" in metrics["elbo_nats"].protocol
    assert metrics["elbo_nats"].value == pytest.approx(metrics["log_likelihood_nats"].value - metrics["kl_nats"].value)
    assert "curl 'localhost:8000/v1/models/bars/sample" in capsys.readouterr().out


def test_run_leaves_its_figures_with_the_version(call: list[str], tmp_path: Path) -> None:
    """Samples, reconstructions beside originals, curves: pictures large enough to look at."""
    main(call)
    folder = tmp_path / "store" / "bars" / "1"
    sizes = {path.name: Image.open(io.BytesIO(path.read_bytes())).size for path in folder.glob("*.png")}

    assert sizes.keys() == {"samples.png", "reconstructions.png", "curves.png"}
    assert all(min(size) >= 256 for size in sizes.values())


def test_run_that_cannot_be_published_is_kept(
    call: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The hours are not lost: the message says how to publish elsewhere."""

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(Store, "publish", full)
        assert main(call) == 1
    said = capsys.readouterr().out
    (run,) = (tmp_path / "runs").iterdir()

    assert "No space left on device" in said
    assert f"python -m training --resume {run} --store DIR" in said
    assert main(["--resume", str(run), "--store", str(tmp_path / "elsewhere")]) == 0


def test_second_run_publishes_the_next_version(call: list[str], tmp_path: Path) -> None:
    """Nothing is overwritten."""
    main([*call, "--set", "epochs=1"])
    main([*call, "--set", "epochs=1", "name=bars"])

    assert [str(version) for version in Store(tmp_path / "store").versions()] == ["bars@1", "bars@2"]


def test_interrupted_run_can_be_resumed(call: list[str], tmp_path: Path) -> None:
    """Ctrl-C, in a process of its own, while it trains; then the command that it printed."""
    process = subprocess.Popen(
        [sys.executable, "-m", "training", *call, "--set", "epochs=100000"], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    lines = iter(process.stdout.readline, "")
    next(line for line in lines if line.startswith("epoch   2/"))
    os.kill(process.pid, signal.SIGINT)
    said = process.communicate(timeout=60)[0]

    assert process.returncode == 130
    assert "Go on with: python -m training --resume" in said
    (run,) = (tmp_path / "runs").iterdir()
    description = run / "run.json"
    description.write_text(description.read_text().replace('"epochs": 100000', '"epochs": 2'))
    assert main(["--resume", str(run), "--store", str(tmp_path / "store")]) == 0
    assert str(Store(tmp_path / "store").resolve("bars")) == "bars@1"


def test_run_is_not_resumed_with_other_data(
    call: list[str], idx_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A model of two data sets would be nobody's."""
    main([*call, "--set", "epochs=1"])
    (run,) = (tmp_path / "runs").iterdir()
    (idx_folder / "t10k-images-idx3-ubyte.gz").unlink()

    assert main(["--resume", str(run), "--store", str(tmp_path / "store")]) == 1
    assert "was begun with images of SHA-256" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        pytest.param(["--set", "epochs=0"], "epochs: Input should be greater", id="recipe"),
        pytest.param(["--data", "/nowhere"], "No images in /nowhere", id="data"),
        pytest.param(["--data", "/no[/b]where"], "No images in /no[/b]where", id="markup"),
        pytest.param(["--device", "abacus"], "There is no device 'abacus'", id="device"),
        pytest.param(["--store", "/proc/none"], "/proc/none", id="store"),
    ],
)
def test_what_cannot_work_is_one_line_before_any_work(
    call: list[str], changes: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """No traceback, and no hour lost."""
    assert main([*call, *changes]) == 1

    assert message in capsys.readouterr().out


@pytest.mark.parametrize(
    "call", [[], ["mnist", "--resume", "runs/x"], ["--resume", "runs/x", "--set", "epochs=1"]], ids=str
)
def test_recipe_and_run_exclude_each_other(call: list[str]) -> None:
    """A run keeps its own recipe."""
    with pytest.raises(SystemExit, match="2"):
        main(call)
