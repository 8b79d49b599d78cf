"""Settings of the environment: empty variables, and variables of libraries."""

import signal
import sys
from pathlib import Path

import httpx
import pytest

from model_store import Store
from service.__main__ import read_settings
from service.settings import Settings

from ..process import Process
from ..signalled import signalled


def test_empty_variable_is_not_set(monkeypatch: pytest.MonkeyPatch) -> None:
    """Compose files pass variables on even if they are not set. As a path, an empty one would be the current folder."""
    plain = read_settings([])
    for name in Settings.model_fields:
        monkeypatch.setenv(f"LATENTD_{name.upper()}", "")

    assert read_settings([]) == plain


@pytest.mark.parametrize("flag", ["--store=", "--cache=", "--host="])
def test_empty_flag_is_not_set(flag: str) -> None:
    """A script may pass an empty variable as a flag."""
    assert read_settings([flag]) == read_settings([])


def test_variables_of_libraries_change_nothing(started: list[Process], store: Store, tmp_path: Path) -> None:
    """Variables for other programs on the machine change no count, write no folder and do not prevent the start."""
    counts = tmp_path / "counts"
    counts.mkdir()
    foreign = {
        "PROMETHEUS_MULTIPROC_DIR": str(counts),
        "prometheus_multiproc_dir": str(counts),
        "WEB_CONCURRENCY": "auto",
        "FORWARDED_ALLOW_IPS": "*",
        "UVICORN_PORT": "1",
        "FASTAPI_OTEL_AUTO_CONFIGURE": "true",
        "OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9",
        "FASTAPI_ENV": "development",
        "LATENTD_API_KEYS": "",
    }
    process = Process(store.root, "--reload-s=0", **foreign)
    started.append(process)
    process.wait_for("ready")

    metrics = httpx.get(f"{process.url}/metrics").text
    assert httpx.get(f"{process.url}/v1/sample").status_code == 200
    assert "latentd_requests_in_flight 1.0" in metrics
    assert [*counts.iterdir()] == []


def test_default_model_that_is_missing_is_logged(started: list[Process], store: Store) -> None:
    """The log tells an operator why the service does not become ready, and where the store is."""
    process = Process(store.root, "--default-model=blue")
    started.append(process)
    line = process.wait_for("not ready")

    assert line["reason"] == (
        "The default model blue is not in the store, which has colour@1, grey@1; publish it, or choose another default."
    )
    assert line["store"] == str(store.root)
    assert httpx.get(f"{process.url}/readyz").json()["detail"] == line["reason"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signal_during_the_imports_ends_the_process_in_silence(tmp_path: Path, number: signal.Signals) -> None:
    """Ctrl-C printed a traceback, and process 1 of a container ignored SIGTERM."""
    command = [sys.executable, "-m", "service", "--port", "0", "--store", "missing"]
    result = signalled(command, number, tmp_path)

    assert (result.returncode, result.stdout, result.stderr) == (128 + number, "", "")
