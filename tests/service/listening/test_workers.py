"""Several processes on one port: each answers, they count together, and the service outlives its workers."""

import asyncio
import os
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path

import httpx
import pytest

from model_store import Store
from service.listening.shared_port import bind

from ...conftest import make_model
from ...process import Process, customized
from .test_bad_day import HANGING_READS
from .test_server import SLOW, sample_until_refused


def start(started: list[Process], store: Store, *flags: str, drain_s: float = 0.2, **environment: str) -> Process:
    """A service with two workers, which have their models and listen."""
    process = Process(store.root, "--workers=2", f"--drain-s={drain_s}", *flags, **environment)
    started.append(process)
    process.wait_for("listening")  # the second, since a `Process` has waited for one
    return process


def workers(process: Process) -> set[int]:
    """The process ids of the workers."""
    children = f"/proc/{process.pid}/task/{process.pid}/children"
    with open(children, encoding="ascii") as file:
        return set(map(int, file.read().split()))


def ask(process: Process, times: int, model: str = "grey") -> Counter[int]:
    """The statuses of sample requests; each has its own connection, so that any worker may answer."""
    url = f"{process.url}/v1/models/{model}/sample?seed=7"
    return Counter(httpx.get(url).status_code for _ in range(times))


def counted(process: Process) -> float:
    """The number of samples, according to the metrics."""
    text = httpx.get(f"{process.url}/metrics").text
    return sum(float(number) for number in re.findall(r'^latentd_requests_total\{.*"/sample".*\} (\S+)$', text, re.M))


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signal_during_the_warm_up_is_no_fault_of_the_version(tmp_path: Path, number: signal.Signals) -> None:
    """After two such starts the model was refused for a day."""
    store, cache = Store(tmp_path / "store"), tmp_path / "cache"
    store.publish("slow", make_model(SLOW))
    command = [sys.executable, "-m", "service", "--workers=2", "--port=0", f"--store={store.root}", f"--cache={cache}"]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    while not any(file.stat().st_size for file in cache.glob("*.loading")):
        assert process.poll() is None
        time.sleep(0.001)
    process.send_signal(number)

    assert process.wait(timeout=60) == 128 + number
    assert not [*cache.glob("*.loading")]


def test_workers_answer_on_one_port_and_count_together(started: list[Process], store: Store) -> None:
    """Each worker answers a seed with the same bytes, and with the metrics of all workers."""
    process = start(started, store)
    samples = {httpx.get(f"{process.url}/v1/sample?seed=7").content for _ in range(20)}

    assert len(workers(process)) == 2
    assert len(samples) == 1
    assert {counted(process) for _ in range(8)} == {20.0}


@pytest.mark.anyio
async def test_connections_are_shared(started: list[Process], store: Store) -> None:
    """Connections come in bursts; a worker that is busy during one gets its part of the next."""
    process = await asyncio.to_thread(start, started, store)
    before = {worker: sockets(worker) for worker in workers(process)}
    held, writers, deadline = [0], [], time.monotonic() + 20
    while min(held) == 0 and time.monotonic() < deadline:
        writers += await connect(process, 8)
        held = [sockets(worker) - others for worker, others in before.items()]
        await asyncio.sleep(0.5)
    for writer in writers:
        writer.close()

    assert sum(held) == len(writers)
    assert min(held) >= 1


async def connect(process: Process, times: int) -> list[asyncio.StreamWriter]:
    """Connections made at once; each has got an answer."""
    connections = await asyncio.gather(*(asyncio.open_connection(*process.address) for _ in range(times)))
    for reader, writer in connections:
        writer.write(b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n")
        await reader.readuntil(b"\r\n\r\n")
    return [writer for _, writer in connections]


def sockets(process: int) -> int:
    """The number of open sockets of a process."""
    found = 0
    for file in Path(f"/proc/{process}/fd").iterdir():
        with suppress(FileNotFoundError):
            found += os.readlink(file).startswith("socket:")
    return found


def test_worker_that_dies_is_replaced(started: list[Process], store: Store) -> None:
    """The other worker answers meanwhile, and the counts are kept."""
    process = start(started, store)
    ask(process, 10)
    before = workers(process)
    os.kill(min(before), signal.SIGKILL)
    died = process.wait_for("worker died")
    process.wait_for("listening")

    assert died["process"] == min(before)
    assert len(workers(process) - before) == 1
    assert ask(process, 10) == {200: 10}
    assert counted(process) == 20


def test_workers_that_replace_all_others_answer_at_once_and_read_what_is_new(
    started: list[Process], store: Store
) -> None:
    """They have the models that were read at the start in memory; a version published since is served soon."""
    process = start(started, store, "--reload-s=0.2")
    published = str(store.publish("grey", make_model()))
    while ask(process, 8, published)[200] != 8:
        pass
    for worker in workers(process):
        os.kill(worker, signal.SIGKILL)
    for _ in range(2):
        process.wait_for("listening")
    answered = ask(process, 20)
    while not ask(process, 1, published)[200]:
        pass

    assert answered == {200: 20}
    assert ask(process, 20, published) == {200: 20}


def test_workers_that_are_told_to_end_one_by_one_are_replaced(started: list[Process], store: Store) -> None:
    """The last one of them lets new clients wait; the first process goes on, and so its new workers let them in."""
    process = start(started, store, "--drain-s=0")
    for worker in workers(process):
        os.kill(worker, signal.SIGTERM)
    for _ in range(2):
        process.wait_for("listening")

    assert ask(process, 10) == {200: 10}


def test_worker_that_hangs_is_replaced(started: list[Process], store: Store) -> None:
    """The worker's event loop has stopped; new clients are answered by the other worker, and soon by a new one."""
    process = start(started, store, "--hang-s", "5")
    before = workers(process)
    os.kill(min(before), signal.SIGSTOP)
    hung = process.wait_for("worker hangs")
    process.wait_for("listening")

    assert hung["process"] == min(before)
    assert len(workers(process) - before) == 1
    assert ask(process, 10) == {200: 10}


@pytest.mark.anyio
async def test_sigterm_under_load_loses_no_request(started: list[Process], store: Store) -> None:
    """Both workers answer every request: connected clients are answered, and then the port is closed."""
    process = await asyncio.to_thread(start, started, store, drain_s=1.5)
    loads = [asyncio.create_task(sample_until_refused(process.url)) for _ in range(4)]
    async with httpx.AsyncClient(base_url=process.url) as client:
        for _ in range(20):  # read as they come: a full pipe would lose the line "draining"
            await asyncio.to_thread(process.wait_for, "request")
        process.signal(signal.SIGTERM)
        await asyncio.to_thread(process.wait_for, "draining")
        while (await client.get("/readyz")).status_code != 503:
            pass  # the other worker may answer, which drains a moment later
    ended = asyncio.create_task(asyncio.to_thread(process.end))
    statuses = [status for statuses in await asyncio.gather(*loads) for status in statuses]

    assert set(statuses) == {200}
    assert await ended == 0


def test_second_signal_ends_all_workers_at_once(started: list[Process], store: Store) -> None:
    """An operator need not wait for a long drain."""
    process = start(started, store, drain_s=600)
    process.signal(signal.SIGTERM)
    for _ in range(2):
        process.wait_for("draining")
    process.signal(signal.SIGTERM)

    assert process.end() == 0  # within half a minute


def test_sigterm_ends_all_workers(started: list[Process], store: Store) -> None:
    """The status is 0, and no process is left."""
    process = start(started, store)
    left = workers(process)
    process.signal(signal.SIGTERM)

    assert process.end() == 0
    assert not any(os.path.exists(f"/proc/{worker}") for worker in left)


def test_workers_end_when_the_first_process_is_killed(started: list[Process], store: Store) -> None:
    """No other process knows them."""
    process = start(started, store)
    left = workers(process)
    process.signal(signal.SIGKILL)
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline and any(os.path.exists(f"/proc/{worker}") for worker in left):
        time.sleep(0.05)

    assert not any(os.path.exists(f"/proc/{worker}") for worker in left)


# A child that the service did not start, as process 1 of a container gets one from each process that loses its parent.
FOREIGN_CHILD = """
import os, sys

if sys.orig_argv[1:3] == ["-m", "service"] and not os.fork():
    os.execvp("sleep", ["sleep", "600"])
"""


def test_child_that_the_service_did_not_start_may_stop_go_on_and_end(
    started: list[Process], store: Store, tmp_path: Path
) -> None:
    """The service knows nothing of it; workers are still replaced."""
    process = start(started, store, "--log-level=info", PYTHONPATH=customized(tmp_path, FOREIGN_CHILD))
    is_foreign = {child: Path(f"/proc/{child}/comm").read_text() == "sleep\n" for child in workers(process)}
    foreign, own = sorted(is_foreign, key=is_foreign.__getitem__, reverse=True)[:2]
    for number in (signal.SIGSTOP, signal.SIGCONT, signal.SIGKILL):
        os.kill(foreign, number)
    os.kill(own, signal.SIGKILL)
    died = process.wait_for("worker died")
    process.wait_for("listening")

    assert sum(is_foreign.values()) == 1
    assert died["process"] == own
    assert foreign not in workers(process)
    assert ask(process, 10) == {200: 10}


FAILING_FORKS = """
import errno, os

fork = os.fork

def fork_unless_denied():
    if os.path.exists({denied!r}):
        raise OSError(errno.EAGAIN, os.strerror(errno.EAGAIN))
    return fork()

os.fork = fork_unless_denied
"""


def test_worker_that_cannot_be_forked_is_tried_again_while_the_others_serve(
    started: list[Process], store: Store, tmp_path: Path
) -> None:
    """The system has no room for another process: one line says so, and the worker is there when it has."""
    denied = tmp_path / "denied"
    process = start(started, store, PYTHONPATH=customized(tmp_path, FAILING_FORKS.format(denied=str(denied))))
    before = workers(process)
    denied.touch()
    os.kill(min(before), signal.SIGKILL)
    line = process.wait_for("worker cannot be started")
    answered = ask(process, 10)
    denied.unlink()
    again = process.wait_for("listening")

    assert line["reason"] == "Resource temporarily unavailable"
    assert answered == {200: 10}
    assert again["address"] == process.url
    assert len(workers(process)) == 2


def test_dead_worker_is_replaced_while_a_new_version_is_still_read(
    started: list[Process], store: Store, tmp_path: Path
) -> None:
    """The new worker has the models in memory that were read at the start."""
    hangs = tmp_path / "hangs"
    python_path = customized(tmp_path, HANGING_READS.format(hangs=str(hangs)))
    process = start(started, store, "--reload-s=0.2", PYTHONPATH=python_path)
    hangs.touch()
    store.publish("grey", make_model())
    before = workers(process)
    os.kill(min(before), signal.SIGKILL)
    process.collect_log()
    while len(workers(process) - before) == 0 or len(workers(process)) < 2:
        pass

    assert ask(process, 20) == {200: 20}


# The second worker that reads a new version is held up until a file is there.
SLOW_SECOND_READ = """
import os, sys, time

class Finder:
    def find_spec(name, *_):
        if name == "service.app":
            import model_store
            load = model_store.Store.load
            def slow(store, version):
                if version.number == 2:
                    try:
                        os.close(os.open({first!r}, os.O_CREAT | os.O_EXCL))
                    except FileExistsError:
                        while not os.path.exists({second!r}):
                            time.sleep(0.01)
                return load(store, version)
            model_store.Store.load = slow

sys.meta_path.insert(0, Finder)
"""


def test_workers_switch_to_a_new_version_at_one_moment(started: list[Process], store: Store, tmp_path: Path) -> None:
    """While a worker still reads it, both answer with the old one; afterwards, no answer comes from the old one."""
    first, second = tmp_path / "first", tmp_path / "second"
    code = SLOW_SECOND_READ.format(first=str(first), second=str(second))
    process = start(started, store, "--reload-s=0.2", PYTHONPATH=customized(tmp_path, code))
    process.collect_log()

    def models(times: int) -> list[str]:
        return [httpx.get(f"{process.url}/v1/models/grey/sample").headers["X-Model"] for _ in range(times)]

    before = models(1)
    store.publish("grey", make_model())
    while not first.exists():
        before += models(1)
    before += models(40)
    second.touch()
    while (model := models(1)) == ["grey@1"]:
        pass
    after = model + models(40)

    assert set(before) == {"grey@1"}
    assert set(after) == {"grey@2"}


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize(("host", "shown"), [("127.0.0.1", "127.0.0.1"), ("::1", "[::1]")])
def test_port_that_is_taken_is_an_error_at_start(tmp_path: Path, host: str, shown: str, workers: int) -> None:
    """The port is not shared with the other service; the message names the address and the remedy."""
    with bind(host, 0) as taken:
        taken.listen()
        port = taken.getsockname()[1]
        command = [sys.executable, "-m", "service", f"--store={tmp_path}", f"--host={host}", f"--port={port}"]
        second = subprocess.run(
            [*command, f"--workers={workers}"], capture_output=True, text=True, timeout=60, check=False
        )

    assert second.returncode == 2
    assert second.stderr.splitlines()[-1] == (
        f"Cannot serve: The address http://{shown}:{port} cannot be used: Address already in use; "
        "stop the process that listens there, or choose another LATENTD_PORT"
    )


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize(("host", "shown"), [("::1", "[::1]"), ("localhost", "127.0.0.1")])
def test_service_listens_at_ipv6_addresses_and_at_names(
    started: list[Process], store: Store, host: str, shown: str, workers: int
) -> None:
    """The log names the address as a URL that can be copied."""
    process = Process(store.root, "--host", host, f"--workers={workers}")
    started.append(process)

    assert process.url.startswith(f"http://{shown}:")
    assert httpx.get(f"{process.url}/livez").status_code == 200
