"""The ways in which a run ends before its last epoch, and publishes its best one."""

import dataclasses
import os
import pty
import re
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch

from model_store import Store
from training import console, loop
from training.__main__ import main
from training.data import Dataset
from training.epoch import Epoch
from training.loop import Run
from training.validation import Validation

SECONDS = 1800.0
PATIENCE_S = 120.0  # a slow machine imports torch within it


@pytest.fixture
def half_hours(monkeypatch: pytest.MonkeyPatch) -> None:
    """Epochs that say that they have taken half an hour each."""
    measured = loop.train_epoch

    def slow(run: Run, number: int, pixels: torch.Tensor, dataset: Dataset) -> Epoch:
        return dataclasses.replace(measured(run, number, pixels, dataset), seconds=SECONDS)

    monkeypatch.setattr("training.loop.train_epoch", slow)


@pytest.fixture
def worse_and_worse(monkeypatch: pytest.MonkeyPatch) -> None:
    """A validation that is best after the second epoch."""
    nats = iter([-20.0, -10.0, *range(-11, -100, -1)])
    monkeypatch.setattr("training.loop.validate", lambda *_: Validation(float(next(nats)), None))


def epochs(store: Path, version: str) -> tuple[int, int]:
    """The number of epochs of a version's run, and the best of them."""
    training = Store(store).card(Store(store).resolve(version)).training
    assert training is not None
    return training.epochs, training.best_epoch


def only_run(tmp_path: Path) -> str:
    """The folder of the test's run."""
    (run,) = (tmp_path / "the runs").iterdir()
    return str(run)


@pytest.mark.usefixtures("worse_and_worse")
def test_run_ends_after_epochs_that_are_not_better(
    call: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The run trains five of 50 epochs, since the third to fifth are worse than the second."""
    assert main([*call, "--set", "epochs=50", "patience=3"]) == 0

    assert epochs(tmp_path / "the store", "bars@1") == (5, 2)
    assert "The run is finished after epoch 5 of 50: 3 epochs were not better." in capsys.readouterr().out
    assert main(["--resume", only_run(tmp_path)]) == 0
    assert "3 epochs were not better: it is bars@1 in " in capsys.readouterr().out


@pytest.mark.usefixtures("half_hours")
def test_run_ends_with_its_time(call: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Two epochs of half an hour fit into 1.2 hours; the best of them is published, and published once."""
    assert main([*call, "--hours", "1.2", "--set", "epochs=50"]) == 0

    said = capsys.readouterr().out
    assert "The run is at the end of its 1.2 hours, at epoch 2 of 50." in said
    assert epochs(tmp_path / "the store", "bars@1")[0] == 2
    assert main(["--resume", only_run(tmp_path)]) == 0
    assert "at epoch 2 of 50: it is bars@1 in " in capsys.readouterr().out


@pytest.mark.usefixtures("half_hours")
def test_more_hours_continue_a_run_and_publish_a_further_version(call: list[str], tmp_path: Path) -> None:
    """The hours count the epochs of all sessions together."""
    main([*call, "--hours", "1.2", "--set", "epochs=50"])

    assert main(["--resume", only_run(tmp_path), "--hours", "2"]) == 0

    assert epochs(tmp_path / "the store", "bars@2")[0] == 4


@pytest.mark.usefixtures("half_hours")
def test_first_epoch_is_trained_however_few_the_hours(call: list[str], tmp_path: Path) -> None:
    """A run without an epoch would have nothing to publish."""
    assert main([*call, "--hours", "0.01"]) == 0

    assert epochs(tmp_path / "the store", "bars@1")[0] == 1


@pytest.mark.parametrize("hours", ["0", "-1", "nan", "inf", "soon"])
def test_hours_are_a_number_above_0(call: list[str], hours: str, capsys: pytest.CaptureFixture[str]) -> None:
    """The error names the value."""
    with pytest.raises(SystemExit, match="2"):
        main([*call, f"--hours={hours}"])

    assert f"{hours} is not a number of hours above 0, such as 0.5" in capsys.readouterr().err


@pytest.fixture
def threads() -> Iterator[None]:
    """The threads of other tests stay as they are."""
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("threads")
def test_run_remembers_its_threads(call: list[str], tmp_path: Path) -> None:
    """Sums in another number of threads may differ in the last digits, so a resumed run takes the same number."""
    main([*call, "--threads", "1", "--set", "epochs=1"])
    torch.set_num_threads(2)

    assert main(["--resume", only_run(tmp_path), "--store", str(tmp_path / "elsewhere")]) == 0

    store = Store(tmp_path / "elsewhere")
    training = store.card(store.resolve("bars@1")).training
    assert training is not None
    assert training.device == "cpu, 1 thread"


@pytest.mark.parametrize(("answer", "status", "versions"), [("y", 0, ["bars@1"]), ("", 130, [])], ids=["yes", "no"])
def test_ctrl_c_on_a_terminal_offers_to_publish_the_best_epoch(
    call: list[str], tmp_path: Path, answer: str, status: int, versions: list[str]
) -> None:
    """The command that continues the run is printed before the question."""
    ours, its = pty.openpty()
    command = [sys.executable, "-m", "training", *call, "--set", "epochs=100000"]
    process = subprocess.Popen(command, stdin=its, stdout=its, stderr=its, env={**os.environ, "TERM": "dumb"})
    os.close(its)
    terminal = os.fdopen(ours, "r+b", buffering=0)
    with terminal, killed_at_the_end(process):
        read_until(terminal.fileno(), r"epoch   2/")
        process.send_signal(signal.SIGINT)
        said = read_until(terminal.fileno(), r"\[y/N\] ")
        terminal.write(f"{answer}\n".encode())
        read_to_end(terminal.fileno())
        assert process.wait(timeout=PATIENCE_S) == status

    assert re.search(r"Continue it with: .*Publish the weights of epoch \d+, the best so far", said, re.DOTALL)
    assert [str(version) for version in Store(tmp_path / "the store").versions()] == versions


@contextmanager
def killed_at_the_end(process: subprocess.Popen[bytes]) -> Iterator[None]:
    """Leave no command behind that trains or waits for an answer."""
    try:
        yield
    finally:
        process.kill()  # which does nothing after its end
        process.wait()


def pieces(terminal: int) -> Iterator[str]:
    """The text of a terminal as it comes, until the command has closed it, for which Linux gives an error."""
    end = time.monotonic() + PATIENCE_S
    while (left_s := end - time.monotonic()) > 0 and select.select([terminal], [], [], left_s)[0]:
        try:
            yield os.read(terminal, 4096).decode(errors="replace")
        except OSError:
            return
    pytest.fail(f"the command neither says the expected words nor ends within {PATIENCE_S} seconds")


def read_until(terminal: int, pattern: str) -> str:
    """The text of a terminal up to a pattern."""
    said = ""
    for piece in pieces(terminal):
        said += piece
        if re.search(pattern, said):
            return said
    pytest.fail(f"the command has ended without {pattern}: {said}")


def read_to_end(terminal: int) -> None:
    """Read until the command has closed its terminal."""
    for _ in pieces(terminal):
        pass


def test_question_is_not_asked_without_a_terminal() -> None:
    """A job in a pipe would wait for an answer that never comes."""
    assert console.confirm("Publish?") is False
