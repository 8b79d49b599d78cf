"""The service as people start it: a process of its own, a real port, real signals."""

import asyncio
import os
import re
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path
from unittest.mock import Mock

import httpx
import pytest

from model_store import Store, VAEConfig
from model_store.vae import MLPConfig
from service.__main__ import main
from service.listening.connection import Connection
from service.listening.server import CHECKED_AT_ONCE, close_overdue
from service.settings import Settings

from ...conftest import make_model
from ...process import Process
from ...reliability.versions import Shelf, wrongly_hashed
from ..wire import picture
from .kernel import can_hold_clients
from .raw import HOST, connected, drip, status_of_next

SLOW = VAEConfig(image_shape=(1, 8, 8), latent_shape=(3,), network=MLPConfig(hidden=(2048, 2048)))
IMAGE_LIMITS = ("max-images-per-request", "max-batch-images", "queue-images")  # raised, so that a batch takes seconds


def start(started: list[Process], store: Store, *flags: str, **environment: str) -> Process:
    """A service that has read its models."""
    process = Process(store.root, *flags, **environment)
    started.append(process)
    process.wait_for("ready")
    return process


def test_service_answers_and_stops_with_status_zero(started: list[Process], store: Store) -> None:
    """Started with flags and environment variables (some as Kubernetes adds them), stopped by Ctrl-C."""
    links = {"LATENTD_SERVICE_HOST": "10.0.0.1", "LATENTD_PORT_80_TCP": "tcp://10.0.0.1:80"}
    process = start(started, store, "--default-model", "grey", LATENTD_MAX_IMAGES_PER_REQUEST="3", **links)

    assert httpx.get(f"{process.url}/v1/sample?n=3").status_code == 200
    assert httpx.get(f"{process.url}/v1/sample?n=4").status_code == 413
    process.signal(signal.SIGINT)
    assert process.end() == 0


def test_service_with_a_closed_log_still_ends(started: list[Process], store: Store) -> None:
    """A line that cannot be written does not stop the drain."""
    process = start(started, store, "--drain-s", "0")
    assert process.process.stderr is not None
    process.process.stderr.close()
    process.signal(signal.SIGTERM)

    assert process.process.wait(timeout=20) == 0


def test_service_whose_log_is_full_still_answers(started: list[Process], store: Store) -> None:
    """The other end of the pipe is open, and not read: lines are dropped, and a later line says how many."""
    process = start(started, store)
    with httpx.Client(base_url=process.url) as client:
        statuses = {client.get("/v1/sample").status_code for _ in range(1000)}  # 64 kB of lines and more
    process.collect_log()
    time.sleep(0.1)
    httpx.get(f"{process.url}/v1/sample")
    process.signal(signal.SIGINT)

    assert statuses == {200}
    assert process.end() == 0
    assert "lines_dropped_before" in process.logged


@pytest.mark.anyio
async def test_sigterm_turns_readiness_red_and_loses_no_request(started: list[Process], store: Store) -> None:
    """Under load, every request is answered until the port is closed, and the status is 0."""
    process = await asyncio.to_thread(start, started, store, "--drain-s", "1.5")
    loads = [asyncio.create_task(sample_until_refused(process.url)) for _ in range(4)]
    async with httpx.AsyncClient(base_url=process.url) as client:
        assert (await client.get("/readyz")).status_code == 200
        process.signal(signal.SIGTERM)
        await asyncio.to_thread(process.wait_for, "draining")
        assert (await client.get("/readyz")).status_code == 503
    end = asyncio.create_task(asyncio.to_thread(process.end))
    statuses = [status for statuses in await asyncio.gather(*loads) for status in statuses]

    assert set(statuses) == {200}
    assert await end == 0


def test_slow_body_is_awaited_after_sigterm(started: list[Process], store: Store) -> None:
    """The body keeps its deadline, and so does its answer, though new clients are no longer accepted."""
    process = start(started, store, "--drain-s=0", "--timeout-s=0.5")
    body = picture()
    with connected(process.url) as connection:
        connection.sendall(b"POST /v1/models/grey/encode HTTP/1.1\r\n" + HOST + b"Content-Type: image/png\r\n")
        connection.sendall(b"Content-Length: %d\r\n\r\n" % len(body))
        process.signal(signal.SIGTERM)
        process.wait_for("draining")
        drip(connection, body, seconds=2.5)

        assert status_of_next(connection) == 200
    assert process.end() == 0


def test_each_file_that_the_system_allows_may_be_a_connection(started: list[Process], store: Store) -> None:
    """The soft limit is often so low that a thousand silent clients would use up all connections."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(soft, 256), hard))
    try:
        process = start(started, store)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))

    assert resource.prlimit(process.pid, resource.RLIMIT_NOFILE) == (hard, hard)


async def sample_until_refused(url: str) -> list[int]:
    """Ask for samples one after the other until the port is closed; any other failure fails the test.

    Where the kernel cannot hold new clients, it may reset one that connects at the moment at which the port closes.
    """
    statuses, closed = [], httpx.ConnectError if can_hold_clients() else httpx.NetworkError
    async with httpx.AsyncClient(base_url=url) as client:
        while True:
            try:
                statuses.append((await client.get("/v1/sample")).status_code)
            except closed:
                return statuses


def test_sigterm_while_models_are_read_ends_it(started: list[Process], store: Store) -> None:
    """No client is served yet, so the service ends without reading the remaining models."""
    for number in range(60):
        store.publish(f"model-{number}", make_model())
    process = Process(store.root, "--drain-s", "0")
    started.append(process)
    process.signal(signal.SIGTERM)

    assert process.end() == 0
    assert "draining" in process.logged
    assert '"ready"' not in process.logged


@pytest.mark.anyio
async def test_many_connections_are_checked_in_several_turns() -> None:
    """A thousand at once took 5 ms. A connection that is lost in between is not closed: that would end the service."""
    connections = [Mock(spec=Connection) for _ in range(2 * CHECKED_AT_ONCE + 1)]
    checked = dict.fromkeys(connections)
    asyncio.get_running_loop().call_soon(checked.pop, connections[-1])
    await close_overdue(checked)

    assert [connection.close_if_overdue.call_count for connection in connections] == [1] * 2 * CHECKED_AT_ONCE + [0]


def test_service_leaves_nothing_at_home(started: list[Process], store: Store, tmp_path: Path) -> None:
    """No library writes files there, such as usage statistics to be sent later."""
    home = tmp_path / "home"
    home.mkdir()
    process = start(started, store, HOME=str(home), XDG_CACHE_HOME=str(home / "cache"))
    statuses = [httpx.get(f"{process.url}/v1/sample").status_code]
    process.signal(signal.SIGINT)

    assert process.end() == 0
    assert statuses == [200]
    assert list(home.rglob("*")) == []


def test_second_signal_ends_it_at_once(started: list[Process], store: Store) -> None:
    """An operator need not wait for a long drain, or for a body that does not arrive."""
    process = start(started, store, "--drain-s", "600", "--body-timeout-s", "600")
    with connected(process.url) as connection:
        connection.sendall(b"POST /v1/encode HTTP/1.1\r\n" + HOST + b"Content-Type: image/png\r\n")
        connection.sendall(b"Content-Length: 100\r\n\r\n")
        process.signal(signal.SIGTERM)
        process.wait_for("draining")
        process.signal(signal.SIGTERM)

        assert process.end() == 0  # within half a minute


def test_second_signal_ends_it_while_it_computes(started: list[Process], tmp_path: Path) -> None:
    """If Python ended normally, a thread that is in torch would make the process abort."""
    store = Store(tmp_path / "store")
    store.publish("slow", make_model(SLOW))
    process = start(started, store, "--drain-s=600", "--runtime=torch", *(f"--{limit}=4096" for limit in IMAGE_LIMITS))
    with connected(process.url) as connection:
        connection.sendall(b"GET /v1/sample?n=4096 HTTP/1.1\r\n" + HOST + b"\r\n")
        process.signal(signal.SIGTERM)
        process.wait_for("draining")
        process.signal(signal.SIGTERM)

        assert process.end() == 0


async def sample_until(stop: asyncio.Event, url: str) -> list[tuple[int, str]]:
    """Ask for samples one after the other; return the status and the model of each."""
    seen = []
    async with httpx.AsyncClient(base_url=url) as client:
        while not stop.is_set():
            response = await client.get("/v1/models/grey/sample")
            seen.append((response.status_code, response.headers.get("x-model", "")))
    return seen


@pytest.mark.anyio
async def test_new_versions_are_served_without_a_restart_or_a_failed_request(
    started: list[Process], store: Store, tmp_path: Path
) -> None:
    """Under load, a damaged version is refused, the next good one takes over, and every request is answered."""
    process = await asyncio.to_thread(start, started, store, "--reload-s", "0.1", "--default-model", "grey")
    stop = asyncio.Event()
    loads = [asyncio.create_task(sample_until(stop, process.url)) for _ in range(4)]
    await asyncio.to_thread(Shelf(store, "grey", tmp_path / "workshop").add, wrongly_hashed)
    await asyncio.to_thread(process.wait_for, "version refused")
    await asyncio.to_thread(store.publish, "grey", make_model(seed=1))
    await asyncio.to_thread(process.wait_for, "serving")
    async with httpx.AsyncClient(base_url=process.url) as client:
        now = await client.get("/v1/models/grey/sample")
        refused = (await client.get("/metrics")).text
    stop.set()
    answers = [answer for answers in await asyncio.gather(*loads) for answer in answers]

    assert now.headers["x-model"] == "grey@3"
    assert 'latentd_versions_refused_total{model="grey"} 1.0' in refused
    assert {status for status, _ in answers} == {200}
    assert {model for _, model in answers} <= {"grey@1", "grey@3"}


def run(*flags: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run `python -m service`, which is expected to end by itself."""
    return subprocess.run(
        [sys.executable, "-m", "service", *flags],
        capture_output=True, text=True, timeout=60, check=False, env={**os.environ, **environment},
    )  # fmt: skip


@pytest.mark.parametrize(
    ("flags", "environment", "message"),
    [
        pytest.param(["--port", "70000"], {}, "port must be at most 65535, not 70000", id="flag"),
        pytest.param([], {"LATENTD_PORT": "http"}, "port must be a whole number", id="environment"),
        pytest.param(
            [], {"LATENTD_PROT": "80"}, "there is no setting LATENTD_PROT; did you mean LATENTD_PORT?", id="misspelt"
        ),
        pytest.param(["--prot", "80"], {}, "there is no flag --prot; did you mean --port?", id="misspelt-flag"),
        pytest.param(["80"], {}, "each value needs a flag before it", id="no-flag"),
        pytest.param(["--port"], {}, "--port: expected one argument", id="no-value"),
        pytest.param(["--device", "gpu"], {}, "the devices are auto, cpu, cuda and cuda:N", id="unknown-device"),
        pytest.param(["--dtype", "half"], {}, "dtype must be auto, float32, bfloat16 or float16", id="unknown-word"),
        pytest.param(["--store", "/nowhere"], {}, "No store at /nowhere", id="store"),
        pytest.param([], {"LATENTD_PORT": "tcp://10.0.0.1:80"}, "enableServiceLinks: false", id="kubernetes"),
        pytest.param([], {"LATENTD_API_KEYS": ","}, "a key has visible ASCII", id="keys"),
        pytest.param(["--default-model", "../x"], {}, "is not the name of a model", id="model"),
        pytest.param(["--queue-images", "9"], {}, "raise the first", id="limits"),
    ],
)
def test_bad_settings_are_one_line_and_status_2(
    flags: list[str],
    environment: dict[str, str],
    message: str,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    """There is no traceback, and the service does not start with a setting that it has not understood."""
    for name, value in environment.items():
        monkeypatch.setenv(name, value)

    assert main(flags) == 2
    line = capfd.readouterr().err
    assert line.startswith("Cannot serve: ")
    assert message in line
    assert line.count("\n") == 1


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        pytest.param(["--port=70000"], "port must be at most 65535, not 70000", id="before-the-app"),
        pytest.param(["--device=cuda:77"], "no device 'cuda:77'", id="by-the-app"),
    ],
)
def test_process_with_bad_settings_ends_with_one_line_and_status_2(flags: list[str], message: str) -> None:
    """A shell or an orchestrator sees the status, and nothing else is printed."""
    result = run(*flags)

    assert result.returncode == 2
    assert result.stderr.startswith("Cannot serve: ")
    assert message in result.stderr
    assert result.stderr.count("\n") == 1


def test_help_shows_every_setting_its_default_and_what_extremes_do() -> None:
    """An operator needs no other document."""
    text = " ".join(run("--help").stdout.split())

    for name, field in Settings.model_fields.items():
        assert f"--{name.replace('_', '-')}" in text
        assert " ".join((field.description or "").split()) in text
        assert f"(default: {'none' if field.default in (None, (), '') else field.default}" in text
    assert "usage: python -m service [flags]" in text
    assert {"--api-keys KEYS ", "--timeout-s SECONDS ", "--max-images-per-request IMAGES ", "--host HOST "} <= {
        f"{flag} " for flag in re.findall(r"--[a-z-]+ [A-Z]+(?= )", text)
    }
    assert re.search(r"tuple\[|\bPath\b|\bint\b|\bstr\b", text) is None
    bounded = [field for field in Settings.model_fields.values() if field.annotation in (int, float)]
    assert all("too low" in str(field.description) for field in bounded if field is not Settings.model_fields["port"])


def test_probe_tells_whether_the_service_is_ready(started: list[Process], store: Store) -> None:
    """The HEALTHCHECK of the image runs this command."""
    process = start(started, store)
    _, port = process.address

    def probe(port: str) -> int:
        command = [sys.executable, "-m", "service.probe"]
        environment = {**os.environ, "LATENTD_PORT": port}
        return subprocess.run(command, env=environment, check=False, capture_output=True).returncode

    assert probe(str(port)) == 0
    assert probe("9") == 1
