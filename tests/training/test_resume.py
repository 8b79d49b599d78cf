"""A run stopped by a signal or a full disk names the files that are kept, and prints the command to continue."""

import errno
import io
import os
import re
import shutil
import signal
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import pytest
from rich.console import Console

from model_store import Store
from training import checkpoint, console
from training.__main__ import main
from training.evaluate.__main__ import main as evaluate

from ..signalled import signalled

STATUS = {signal.SIGINT: 130, signal.SIGTERM: 143, signal.SIGHUP: 129}


def raises(error: BaseException) -> Callable[..., NoReturn]:
    """A function that always raises this error."""

    def fake(*_: object, **__: object) -> NoReturn:
        raise error

    return fake


def full() -> OSError:
    """The error of a full disk, as a write gives it: without a file's name."""
    return OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


class FullAfter:
    """A disk that is full after some files and folders; the first two are of the store, which reserves a number."""

    def __init__(self, files: int) -> None:
        self.free = files

    def fsync(self, _: int) -> None:
        """As `os.fsync`."""
        self.free -= 1
        if self.free < 0:
            raise full()


def sends(number: signal.Signals) -> Callable[..., None]:
    """A function that sends the process a signal."""

    def fake(*_: object, **__: object) -> None:
        os.kill(os.getpid(), number)

    return fake


def continuing(said: str) -> list[str]:
    """The arguments of the command that was printed, split as a shell splits them."""
    (command,) = re.findall("Continue it with: (.*)", said)
    words = subprocess.run(["/bin/sh", "-c", f"printf '%s\\n' {command}"], capture_output=True, text=True, check=True)
    python, flag, module, *arguments = words.stdout.splitlines()
    assert (python, flag, module) == ("python", "-m", "training")
    return arguments


def versions(store: Path) -> list[str]:
    """All versions in a store."""
    return [str(version) for version in Store(store).versions()]


@pytest.mark.parametrize("number", STATUS)
def test_signal_leaves_a_run_that_the_printed_command_continues(
    call: list[str], tmp_path: Path, number: signal.Signals
) -> None:
    """The printed command, without further flags, publishes into the same store."""
    process = subprocess.Popen(
        [sys.executable, "-m", "training", *call, "--set", "epochs=100000"], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    lines = iter(process.stdout.readline, "")
    next(line for line in lines if line.startswith("epoch   2/"))
    process.send_signal(number)
    said = process.communicate(timeout=60)[0]
    (run,) = (tmp_path / "the runs").iterdir()
    description = run / "run.json"
    description.write_text(description.read_text().replace('"epochs": 100000', '"epochs": 2'))

    assert process.returncode == STATUS[number]
    assert re.search(r"^Stopped\. The run is kept up to epoch \d+ of 100000\.", said, re.MULTILINE)
    assert main(continuing(said)) == 0
    assert versions(tmp_path / "the store") == ["bars@1"]


@pytest.mark.parametrize("module", ["training", "training.evaluate"])
@pytest.mark.parametrize("number", STATUS)
def test_signal_during_the_imports_ends_the_command_in_one_line(
    tmp_path: Path, module: str, number: signal.Signals
) -> None:
    """The handler is installed before the slow imports."""
    command = [sys.executable, "-m", module, "mnist"]
    result = signalled(command, number, tmp_path)

    assert (result.returncode, result.stdout, result.stderr) == (STATUS[number], "", "Stopped.\n")


ALONE = ["unshare", "--pid", "--fork", "--kill-child"]


@pytest.mark.skipif(
    shutil.which("unshare") is None
    or subprocess.run([*ALONE, "true"], capture_output=True, check=False).returncode != 0,
    reason="no process may have a table of processes of its own here",
)
def test_process_1_obeys_sigterm(tmp_path: Path) -> None:
    """The kernel drops signals without a handler for process 1 of a container."""
    command = [*ALONE, sys.executable, "-m", "training", "no such recipe"]
    result = signalled(command, signal.SIGTERM, tmp_path)

    assert (result.returncode, result.stderr) == (143, "Stopped.\n")


@pytest.mark.parametrize("number", STATUS)
@pytest.mark.parametrize("moment", ["load_dataset", "warm_start", "checkpoint.save"])
def test_signal_before_the_first_epoch_is_one_line(
    call: list[str],
    tmp_path: Path,
    moment: str,
    number: signal.Signals,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The folder of the run is removed, or was not made yet."""
    monkeypatch.setattr(f"training.__main__.{moment}", sends(number))

    assert main(call) == STATUS[number]
    assert capsys.readouterr().out == "Stopped before the first epoch; nothing is kept.\n"
    assert list(tmp_path.glob("the runs/*")) == []


def test_signal_before_a_resumed_run_trains_says_that_the_run_is_unchanged(
    call: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The epochs before it was stopped are kept."""
    monkeypatch.setattr("training.loop.train_step", raises(full()))
    main(call)
    (run,) = (tmp_path / "the runs").iterdir()
    capsys.readouterr()
    monkeypatch.setattr("training.__main__.load_dataset", sends(signal.SIGINT))

    assert main(["--resume", str(run)]) == 130
    assert capsys.readouterr().out == f"Stopped; the run in {run} is unchanged.\n"


def test_signal_during_an_evaluation_is_one_line(
    call: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """An evaluation keeps nothing."""
    main([*call, "--set", "epochs=1"])
    capsys.readouterr()
    monkeypatch.setattr("training.evaluate.images.load_dataset", sends(signal.SIGINT))

    assert evaluate(["bars", "--store", str(tmp_path / "the store")]) == 130
    assert capsys.readouterr().out == "Stopped; nothing is measured.\n"


def test_signal_in_the_first_epoch_leaves_a_run_at_epoch_0(
    call: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A run without a whole epoch can be resumed as well."""
    with monkeypatch.context() as patch:
        patch.setattr("training.loop.train_step", sends(signal.SIGTERM))
        assert main(call) == 143
    said = capsys.readouterr().out

    assert "The run is kept up to epoch 0 of 3." in said
    assert main(continuing(said)) == 0
    assert versions(tmp_path / "the store") == ["bars@1"]


def test_resumed_run_remembers_the_flags_that_it_was_given_last(
    call: list[str],
    idx_folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A run that was sent to another store publishes there with --resume alone; relative paths become absolute."""
    monkeypatch.setattr("training.loop.train_step", raises(full()))
    main([*call, "--strict", "--device", "cpu"])
    (run,) = (tmp_path / "the runs").iterdir()
    begun = checkpoint.describe(run)
    monkeypatch.chdir(tmp_path)
    main(["--resume", str(run), "--store", "elsewhere", "--cache", "cache"])
    resumed = checkpoint.describe(run)
    monkeypatch.undo()

    assert (begun.store, begun.strict, begun.device) == (str(tmp_path / "the store"), True, "cpu")
    assert resumed == begun.model_copy(update={"store": str(tmp_path / "elsewhere"), "cache": str(tmp_path / "cache")})
    capsys.readouterr()
    assert main(["--resume", str(run)]) == 0
    assert versions(tmp_path / "elsewhere") == ["bars@1"]


def test_finished_run_is_published_once(call: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """When it is resumed, it says which version it is; its images are not read."""
    main(call)
    (run,) = (tmp_path / "the runs").iterdir()
    capsys.readouterr()

    assert main(["--resume", str(run), "--data", "/nowhere"]) == 0
    folder = tmp_path / "the store" / "bars" / "1"
    assert capsys.readouterr().out == f"The run in {run} is finished: it is bars@1 in {folder}.\n"
    assert versions(tmp_path / "the store") == ["bars@1"]


def test_run_that_ends_right_after_publishing_is_published_once(
    call: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The run is recognised by the weights of the version, though another version has a broken card."""
    publish = Store.publish

    def last(*arguments: Any, **more: Any) -> NoReturn:
        publish(*arguments, **more)
        raise SystemExit(137)

    with monkeypatch.context() as patch:
        patch.setattr(Store, "publish", last)
        with pytest.raises(SystemExit, match="137"):
            main(call)
    (run,) = (tmp_path / "the runs").iterdir()
    (broken := tmp_path / "the store" / "bars" / "0").mkdir()
    broken.rename(broken.with_name("7"))

    assert main(["--resume", str(run)]) == 0
    assert "is finished: it is bars@1" in capsys.readouterr().out
    assert versions(tmp_path / "the store") == ["bars@1", "bars@7"]


def test_two_processes_that_resume_one_run_publish_it_once(
    call: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Neither finds the version before it measures the test images; the second to publish finds the version then."""
    with monkeypatch.context() as patch:
        patch.setattr(Store, "publish", raises(full()))
        main(call)
    (run,) = (tmp_path / "the runs").iterdir()
    monkeypatch.setattr("training.__main__.published", lambda *_: None)
    capsys.readouterr()

    assert [main(["--resume", str(run)]) for _ in range(2)] == [0, 0]
    assert versions(tmp_path / "the store") == ["bars@1"]
    assert capsys.readouterr().out.count("Published bars@1") == 2


def test_runs_with_the_same_weights_are_published_each(call: list[str], tmp_path: Path) -> None:
    """The same recipe, images and seed give the same weights. A run is known by its own name."""
    assert [main(call), main(call)] == [0, 0]
    assert versions(tmp_path / "the store") == ["bars@1", "bars@2"]


def test_run_of_an_older_release_is_known_by_its_weights(
    call: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its description has no name of the run."""
    main(call)
    (run,) = (tmp_path / "the runs").iterdir()
    checkpoint.write_description(run, checkpoint.describe(run).model_copy(update={"id": None}))
    capsys.readouterr()

    assert main(["--resume", str(run)]) == 0
    assert "is finished: it is bars@1" in capsys.readouterr().out


def test_files_of_a_run_can_be_read_by_other_users(call: list[str], tmp_path: Path) -> None:
    """The modes do not depend on the umask."""
    mask = os.umask(0o077)
    try:
        main(call)
    finally:
        os.umask(mask)
    (run,) = (tmp_path / "the runs").iterdir()

    assert {stat.S_IMODE(path.stat().st_mode) for path in (run, run.parent)} == {0o755}
    assert {stat.S_IMODE(path.stat().st_mode) for path in run.iterdir()} == {0o644}


def test_what_another_program_left_does_not_get_the_checkpoint(call: list[str], tmp_path: Path) -> None:
    """A link in the place of the unfinished file is replaced, and a pipe is not waited for."""
    main(call)
    (run,) = (tmp_path / "the runs").iterdir()
    (run / ".checkpoint.pt.partial").symlink_to(tmp_path / "other")
    os.mkfifo(run / ".run.json.partial")

    assert main(["--resume", str(run), "--store", str(tmp_path / "elsewhere")]) == 0
    assert not (tmp_path / "other").exists()


def test_finished_run_can_be_published_into_another_store(call: list[str], tmp_path: Path) -> None:
    """The other store does not have the version yet."""
    main(call)
    (run,) = (tmp_path / "the runs").iterdir()

    assert main(["--resume", str(run), "--store", str(tmp_path / "elsewhere")]) == 0
    assert versions(tmp_path / "elsewhere") == ["bars@1"]


@pytest.mark.parametrize("files", [2, 4], ids=["run.json", "checkpoint.pt"])
def test_disk_that_is_full_before_the_first_epoch(
    call: list[str], tmp_path: Path, files: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The message names the folder and the flag for another folder; nothing is left on the disk."""
    monkeypatch.setattr("os.fsync", FullAfter(files).fsync)

    assert main(call) == 1
    runs = tmp_path / "the runs"
    remedy = "Fix this, or name another folder with --runs."
    assert capsys.readouterr().out == f"Cannot write to {runs}: No space left on device. {remedy}\n"
    assert list(runs.iterdir()) == []


def test_disk_that_becomes_full_keeps_the_run_up_to_the_last_epoch(
    call: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The half-written checkpoint is removed, and the printed command continues the run."""
    with monkeypatch.context() as patch:
        patch.setattr("os.fsync", FullAfter(8).fsync)
        assert main(call) == 1
    said = capsys.readouterr().out
    (run,) = (tmp_path / "the runs").iterdir()

    kept = "The run is kept up to epoch 1 of 3. Continue it with: "
    assert f"Cannot write to {run}: No space left on device. {kept}" in said.splitlines()[-1]
    assert sorted(path.name for path in run.iterdir()) == ["checkpoint.pt", "run.json"]
    assert main(continuing(said)) == 0


def test_full_store_is_named_and_the_run_is_kept(
    call: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The printed command publishes the run, into another store if the user names it."""
    with monkeypatch.context() as patch:
        patch.setattr(Store, "publish", raises(full()))
        assert main(call) == 1
    said = capsys.readouterr().out
    store = tmp_path / "the store"

    assert (
        f"Cannot publish into the store {store}: No space left on device. Fix this, or name another with --store. "
        "The run is kept up to epoch 3 of 3. Continue it with: "
    ) in said.splitlines()[-1]
    assert main([*continuing(said), "--store", str(tmp_path / "elsewhere")]) == 0


def test_disk_that_is_neither_the_runs_nor_the_stores_is_not_blamed_on_them(
    call: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A figure that cannot be written is reported with its own path."""
    error = OSError(errno.EROFS, os.strerror(errno.EROFS), "/somewhere/figures")
    monkeypatch.setattr("training.publish.figures", raises(error))

    assert main(call) == 1
    last = capsys.readouterr().out.splitlines()[-1]
    assert "Read-only file system: '/somewhere/figures'. The run is kept up to epoch 3 of 3. Continue it with: " in last
    assert "store" not in last


def test_folder_of_runs_that_cannot_be_made_is_named(call: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """The message has the reason of the operating system."""
    assert main([*call, "--runs", "/proc/none"]) == 1
    assert "Cannot write to /proc/none: No such file or directory. Fix this" in capsys.readouterr().out


class FullLog(io.StringIO):
    """The log of a run on a full disk."""

    def write(self, _: str) -> int:
        raise full()


def test_full_disk_of_the_log_does_not_end_the_run(
    call: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A line that cannot be printed is dropped."""
    monkeypatch.setattr(console, "console", Console(file=FullLog()))

    assert main(call) == 0
    assert versions(tmp_path / "the store") == ["bars@1"]


@pytest.mark.parametrize("flag", ["--data", "--store", "--runs", "--cache"])
def test_path_that_is_not_utf_8_is_refused_before_any_work(
    call: list[str], tmp_path: Path, flag: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """`run.json` and a printed command could not hold the path."""
    path = os.fsdecode(os.fsencode(tmp_path) + b"/\xe9")

    assert main([*call, flag, path]) == 1
    remedy = "it is not UTF-8, so a run could not remember it; rename it."
    assert capsys.readouterr().out == f"Cannot use the path {tmp_path}/\\udce9: {remedy}\n"
    assert sorted(tmp_path.iterdir()) == [tmp_path / "bars.toml", tmp_path / "idx"]
