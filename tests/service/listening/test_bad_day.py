"""A bad day of the machine: signals at any moment, closed streams, no files left, no room on a disk, a pause."""

import os
import pty
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import httpx
import pytest

from model_store import Store

from ...process import READY_S, Process, customized, free_port
from ..wire import picture
from .raw import connected, status_of_next

WORKERS = pytest.mark.parametrize("workers", [1, 2])

# To read a model never ends while a file is there, as on a network drive that does not answer.
HANGING_READS = """
import os, sys, time

class Finder:
    def find_spec(name, *_):
        if name == "service.app":
            import model_store
            load = model_store.Store.load
            model_store.Store.load = lambda *given: load(*given) if not os.path.exists({hangs!r}) else hang()

def hang():
    print("reading", file=sys.stderr, flush=True)
    time.sleep(600)

sys.meta_path.insert(0, Finder)
"""


def start(started: list[Process], store: Store, workers: int, *flags: str, **environment: str) -> Process:
    """A service whose workers all listen and have their models."""
    process = Process(store.root, f"--workers={workers}", "--drain-s=0", *flags, **environment)
    started.append(process)
    for _ in range(workers - 1):
        process.wait_for("listening")
    process.wait_until_ready()
    return process


@contextmanager
def running(command: list[str], **streams: int) -> Iterator[subprocess.Popen[bytes]]:
    """A process with other streams than a `Process` has; it is killed at the end."""
    with subprocess.Popen(command, **streams) as process:  # type: ignore[call-overload]  # streams are numbers
        try:
            yield process
        finally:
            process.kill()


def wait_until_alive(url: str) -> None:
    """Wait until the service answers, for at most a minute."""
    deadline = time.monotonic() + READY_S
    while time.monotonic() < deadline:
        with suppress(httpx.HTTPError):
            httpx.get(f"{url}/livez").raise_for_status()
            return
        time.sleep(0.05)
    raise AssertionError("the service did not answer")


@pytest.fixture
def namespaces() -> list[str]:
    """The command that makes another command process 1 of a container."""
    command = ["unshare", "--map-root-user", "--pid", "--fork", "--kill-child"]
    try:
        subprocess.run([*command, "true"], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("namespaces are not available here")
    return command


@pytest.mark.parametrize(("workers", "status"), [(1, 0), (2, 143)])
def test_sigterm_ends_process_1_whose_model_is_never_read(
    namespaces: list[str], store: Store, tmp_path: Path, workers: int, status: int
) -> None:
    """The kernel keeps from process 1 each signal that it has no handler for; one process listens before it reads."""
    hangs = tmp_path / "hangs"
    hangs.touch()
    command = [sys.executable, "-m", "service", "--store", str(store.root), "--port=0", "--drain-s=0"]
    environment = os.environ | {"PYTHONPATH": customized(tmp_path, HANGING_READS.format(hangs=str(hangs)))}
    with subprocess.Popen(
        [*namespaces, *command, f"--workers={workers}"], stderr=subprocess.PIPE, text=True, env=environment
    ) as outer:
        assert outer.stderr is not None
        assert "reading\n" in outer.stderr  # reads until that line
        first = Path(f"/proc/{outer.pid}/task/{outer.pid}/children").read_text(encoding="ascii")
        os.kill(int(first), signal.SIGTERM)

        assert outer.wait(timeout=30) == status


@WORKERS
def test_sighup_drains_and_other_signals_of_users_do_nothing(
    started: list[Process], store: Store, workers: int
) -> None:
    """A terminal that closes ends the service in order; SIGUSR1 and SIGUSR2 mean nothing to it."""
    process = start(started, store, workers)
    for number in (signal.SIGUSR1, signal.SIGUSR2):
        process.signal(number)
    answered = [httpx.get(f"{process.url}/v1/sample").status_code for _ in range(4)]
    process.signal(signal.SIGHUP)
    status = process.end()

    assert answered == [200] * 4
    assert status == 0
    assert process.logged.count('"draining"') == workers


@WORKERS
def test_service_that_was_started_with_nohup_outlives_its_terminal(
    started: list[Process], store: Store, workers: int
) -> None:
    """SIGHUP is turned off before the start, and stays turned off."""
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        process = start(started, store, workers)
    finally:
        signal.signal(signal.SIGHUP, before)
    process.signal(signal.SIGHUP)

    assert [httpx.get(f"{process.url}/v1/sample").status_code for _ in range(4)] == [200] * 4
    process.signal(signal.SIGTERM)
    assert process.end() == 0


@WORKERS
@pytest.mark.parametrize("redirected", [">&-", "2>&-", "<&- >&- 2>&-", ">/dev/full 2>/dev/full"])
def test_service_needs_no_standard_stream(store: Store, redirected: str, workers: int) -> None:
    """A stream may be closed, or its disk be full; no other file or socket takes the number of a closed stream."""
    port = free_port()
    command = f'exec "$0" -m service "$@" {redirected}'
    flags = [f"--store={store.root}", f"--port={port}", f"--workers={workers}", "--drain-s=0"]
    with running(["/bin/sh", "-c", command, sys.executable, *flags]) as process:
        wait_until_alive(f"http://127.0.0.1:{port}")
        sockets = [os.readlink(f"/proc/{process.pid}/fd/{number}").startswith("socket:") for number in range(3)]
        process.terminate()

        assert sockets == [False] * 3
        assert process.wait(timeout=30) == 0


def test_bad_setting_is_status_2_without_a_place_for_its_message(store: Store) -> None:
    """The disk of standard error is full."""
    command = 'exec "$0" -m service "$@" 2>/dev/full'
    ended = subprocess.run(["/bin/sh", "-c", command, sys.executable, "--port=high"], timeout=60, check=False)

    assert ended.returncode == 2


def test_terminal_that_vanishes_ends_nothing(store: Store) -> None:
    """The service still answers, and still ends in order."""
    port = free_port()
    terminal, stream = pty.openpty()
    command = [sys.executable, "-m", "service", f"--store={store.root}", f"--port={port}", "--drain-s=0"]
    with running(command, stdin=stream, stdout=stream, stderr=stream) as process:
        wait_until_alive(f"http://127.0.0.1:{port}")
        os.close(terminal)
        os.close(stream)
        statuses = [httpx.get(f"http://127.0.0.1:{port}/livez").status_code for _ in range(4)]
        process.terminate()

        assert statuses == [200] * 4
        assert process.wait(timeout=30) == 0


FEW_FILES = """
import resource

resource.setrlimit(resource.RLIMIT_NOFILE, (200, 200))
"""


@WORKERS
def test_client_beyond_the_files_that_the_system_allows_is_told(
    started: list[Process], store: Store, tmp_path: Path, workers: int
) -> None:
    """Files are left for the service itself: connected clients are answered, and new ones once others have left."""
    process = start(started, store, workers, PYTHONPATH=customized(tmp_path, FEW_FILES))
    statuses: Counter[int] = Counter()
    with ExitStack() as stack:
        for _ in range(400):
            client = stack.enter_context(connected(process.url))
            client.sendall(b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n")
            statuses[status_of_next(client)] += 1
        retry_after = httpx.get(f"{process.url}/livez").headers["Retry-After"]
    wait_until_alive(process.url)
    answer = httpx.post(f"{process.url}/v1/encode", content=picture(), headers={"Content-Type": "image/png"})
    process.signal(signal.SIGTERM)
    status = process.end()

    assert set(statuses) == {200, 503}
    assert sum(statuses.values()) == 400
    assert statuses[200] >= 50
    assert retry_after == "1"
    assert answer.status_code == 200
    assert status == 0
    assert process.logged.count('"connections refused"') == workers


NO_ROOM = """
import resource

resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
"""


def test_workers_count_together_without_a_disk(started: list[Process], store: Store, tmp_path: Path) -> None:
    """No file can have a byte, as on a full disk; a killed service leaves no file in memory behind."""
    in_memory = Path("/dev/shm")  # noqa: S108  # nothing is written
    there_before = set(in_memory.iterdir())
    process = start(started, store, 2, PYTHONPATH=customized(tmp_path, NO_ROOM))
    statuses = {httpx.get(f"{process.url}/v1/sample").status_code for _ in range(10)}
    metrics = httpx.get(f"{process.url}/metrics").text
    process.kill()
    left = {path for path in set(in_memory.iterdir()) - there_before if path.name.startswith("latentd")}

    assert statuses == {200}
    assert 'latentd_requests_total{code="200",model="colour@1",route="/sample"} 10.0' in metrics
    assert left == set()


def test_pause_of_all_processes_ends_no_worker(started: list[Process], store: Store) -> None:
    """A container may be paused, and a machine may sleep, for longer than a worker may be silent."""
    process = start(started, store, 2, "--hang-s=3")
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    before = children.read_text(encoding="ascii")
    everyone = [process.pid, *map(int, before.split())]
    for number in everyone:
        os.kill(number, signal.SIGSTOP)
    time.sleep(4)
    for number in everyone:
        os.kill(number, signal.SIGCONT)
    answered = {httpx.get(f"{process.url}/v1/sample").status_code for _ in range(10)}
    time.sleep(2)  # the first process looks at its workers each second

    assert answered == {200}
    assert children.read_text(encoding="ascii") == before
