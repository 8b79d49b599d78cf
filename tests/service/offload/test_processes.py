"""Work in processes: results and errors come back, and a process that is late, large or lost harms no one else."""

import asyncio
import copy
import math
import operator
import os
import resource
import signal
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest

from service import errors
from service.errors import ProcessLost
from service.offload import forked_process
from service.offload import processes as module
from service.offload.processes import Pool, Processes

pytestmark = pytest.mark.anyio

MAX_BYTES = 512 * 2**20
CLIENT = "127.0.0.1"


@pytest.fixture
def processes() -> Iterator[Processes]:
    """Pools of two processes each."""
    processes = Processes(2, MAX_BYTES, ["service.formats.pictures"])
    yield processes
    processes.close()


@pytest.fixture
def pool(processes: Processes) -> Pool:
    """The pool that reads."""
    return processes.reading


async def test_result_comes_back(pool: Pool) -> None:
    """The function has been called in another process."""
    assert await pool.run(CLIENT, operator.add, 1, 2) == 3
    assert await pool.run(CLIENT, os.getpid) != os.getpid()


async def test_large_arrays_travel_both_ways_and_may_be_changed(pool: Pool) -> None:
    """Arrays are far larger than what a socket holds."""
    values = np.arange(3_000_000, dtype=np.uint8).reshape(3, 1000, 1000)

    doubled = await pool.run(CLIENT, np.add, values, values)

    assert np.array_equal(doubled, values * 2)
    assert doubled.flags.writeable


async def test_large_bytes_travel_both_ways(pool: Pool) -> None:
    """A body goes out, and a picture comes back, as bytes."""
    content = os.urandom(3_000_000)

    assert await pool.run(CLIENT, operator.add, content, b"end") == content + b"end"


async def test_empty_bytes_and_arrays_travel(pool: Pool) -> None:
    """The receiver does not wait for bytes that never come."""
    assert await pool.run(CLIENT, bytes, b"") == b""
    assert (await pool.run(CLIENT, np.negative, np.empty((0, 3), np.uint8))).shape == (0, 3)


async def test_error_of_the_work_is_raised_as_it_is(pool: Pool) -> None:
    """The process stays, and the log gets its traceback."""
    before = await pool.run(CLIENT, os.getpid)

    with pytest.raises(ValueError, match="math domain error") as raised:
        await pool.run(CLIENT, math.sqrt, -1.0)

    assert "Traceback" in raised.value.__notes__[0]
    assert await pool.run(CLIENT, os.getpid) == before


async def test_error_of_a_library_comes_back_by_its_name(pool: Pool) -> None:
    """The service need not know the class."""
    with pytest.raises(RuntimeError, match="error: unpack requires a buffer of 4 bytes"):
        await pool.run(CLIENT, struct.unpack, "<I", b"")


@pytest.mark.parametrize(
    "function", [operator.attrgetter("a"), os.kill, subprocess.Popen], ids=["caller", "function", "class"]
)
async def test_process_cannot_have_the_service_call_a_function(pool: Pool, function: object) -> None:
    """A pickle may name any function to be called; a process that was taken over would use it."""
    with pytest.raises(ProcessLost):
        await pool.run(CLIENT, copy.copy, function)

    assert await pool.run(CLIENT, operator.add, 1, 2) == 3


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSEGV])
async def test_process_that_ends_amid_its_work_is_replaced(pool: Pool, number: signal.Signals) -> None:
    """The kernel ends a process when memory runs out; a library may crash. The next work is done."""
    with pytest.raises(errors.ProcessLost, match="try again"):
        await pool.run(CLIENT, signal.raise_signal, number)

    assert await pool.run(CLIENT, operator.add, 1, 2) == 3


async def test_process_that_ended_while_it_did_nothing_is_replaced(pool: Pool) -> None:
    """The work that comes next is innocent, and does not learn of it."""
    process = await pool.run(CLIENT, os.getpid)
    os.kill(process, signal.SIGKILL)
    await until_ended(process)

    assert await pool.run(CLIENT, os.getpid) != process


async def test_server_that_ended_is_replaced(processes: Processes) -> None:
    """All processes end with it, or later."""
    server = await processes.reading.run(CLIENT, os.getppid)
    os.kill(server, signal.SIGKILL)
    await until_ended(server)

    assert await processes.writing.run(CLIENT, operator.add, 1, 2) == 3
    assert await processes.reading.run(CLIENT, operator.add, 1, 2) == 3


@pytest.mark.parametrize("ending", [TimeoutError, asyncio.CancelledError])
async def test_server_that_hangs_is_replaced(
    processes: Processes, monkeypatch: pytest.MonkeyPatch, ending: type[BaseException]
) -> None:
    """Every later request that needed a new process was 504, also if each caller left before its time was over."""
    server = await processes.reading.run(CLIENT, os.getppid)
    os.kill(server, signal.SIGSTOP)
    monkeypatch.setattr(forked_process, "HUNG_S", 0.15)
    monkeypatch.setattr(module, "WORK_S", 0.1 if ending is TimeoutError else 60.0)
    for _ in range(2):
        asking = asyncio.create_task(processes.writing.run(CLIENT, os.getppid))
        await asyncio.wait([asking], timeout=0.1)
        asking.cancel()
        with pytest.raises((errors.DeadlineExceeded, asyncio.CancelledError)):
            await asking
    monkeypatch.undo()

    assert await processes.writing.run(CLIENT, os.getppid) != server


async def test_server_that_ends_while_it_is_asked_is_replaced(
    processes: Processes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first large request after its end was 503."""
    server = await processes.reading.run(CLIENT, os.getppid)
    os.kill(server, signal.SIGKILL)
    os.waitid(os.P_PID, server, os.WEXITED | os.WNOWAIT)
    monkeypatch.setattr(subprocess.Popen, "poll", lambda _: None)  # it had not ended yet

    assert await processes.writing.run(CLIENT, os.getppid) != server


async def test_cancelled_work_is_ended_and_its_process_replaced(pool: Pool) -> None:
    """The caller's time is over, or the client has left: the work does not hold the pool."""
    process = await pool.run(CLIENT, os.getpid)
    others = [asyncio.create_task(pool.run(CLIENT, time.sleep, 600)) for _ in range(2)]
    await asyncio.sleep(0)
    await cancel(others)

    assert [await pool.run(CLIENT, operator.add, 1, number) for number in range(3)] == [1, 2, 3]
    await until_ended(process)


async def test_work_that_takes_too_long_is_ended(pool: Pool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Even where the deadline of the request is later."""
    await pool.run(CLIENT, os.getpid)  # the process has begun
    monkeypatch.setattr(module, "WORK_S", 0.1)

    with pytest.raises(errors.DeadlineExceeded, match=r"within 0.1 s; try again, or send fewer or smaller images"):
        await pool.run(CLIENT, time.sleep, 600)
    monkeypatch.undo()

    assert await pool.run(CLIENT, operator.add, 1, 2) == 3


async def test_work_that_finds_no_free_process_is_refused(
    processes: Processes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The caller waits for a moment. The other pool is as free as before."""
    monkeypatch.setattr(module, "ALONE_WAIT_S", 0.05)
    others = [asyncio.create_task(processes.reading.run(CLIENT, time.sleep, 600)) for _ in range(2)]
    await asyncio.sleep(0)

    with pytest.raises(
        errors.ProcessesBusy, match="All of the 2 processes that read bodies are busy; try again in 1 s"
    ):
        await processes.reading.run(CLIENT, operator.add, 1, 2)
    assert await processes.writing.run(CLIENT, operator.add, 1, 2) == 3

    await cancel(others)


async def test_few_callers_wait(pool: Pool, monkeypatch: pytest.MonkeyPatch) -> None:
    """A caller that could not be served in time is refused at once."""
    monkeypatch.setattr(module, "ALONE_WAIT_S", 600)
    others = [asyncio.create_task(pool.run(CLIENT, time.sleep, 600)) for _ in range(130)]
    await asyncio.sleep(0)

    with pytest.raises(errors.ProcessesBusy):
        await pool.run(CLIENT, operator.add, 1, 2)

    await cancel(others)


async def test_photos_of_64_connections_wait(pool: Pool, monkeypatch: pytest.MonkeyPatch) -> None:
    """All of them are read in less than the time that a caller waits."""
    monkeypatch.setattr(module, "ALONE_WAIT_S", 600)
    work = [pool.run(CLIENT, operator.add, number, 1) for number in range(64)]

    assert await asyncio.gather(*work) == list(range(1, 65))


async def test_memory_of_a_process_is_bounded(pool: Pool) -> None:
    """The client learns of the limit, and the process stays."""
    with pytest.raises(errors.MemoryExceeded, match=f"more than {MAX_BYTES:,} bytes of memory"):
        await pool.run(CLIENT, bytes, MAX_BYTES)

    assert await pool.run(CLIENT, operator.add, 1, 2) == 3


async def test_process_that_has_used_much_memory_gives_it_back(pool: Pool) -> None:
    """The process ends after such work: an allocator keeps what it has once had."""
    first = await pool.run(CLIENT, os.getpid)

    await pool.run(CLIENT, operator.mul, b"x", 200 * 2**20)

    assert await pool.run(CLIENT, os.getpid) != first


async def test_process_can_do_little_harm(pool: Pool, monkeypatch: pytest.MonkeyPatch) -> None:
    """The process writes no file, leaves no core, is the first to be ended without memory, and knows no key."""
    monkeypatch.setenv("LATENTD_API_KEYS", "secret")
    monkeypatch.setenv("latentd_api_keys_file", "secret")

    assert await pool.run(CLIENT, resource.getrlimit, resource.RLIMIT_FSIZE) == (0, 0)
    assert await pool.run(CLIENT, resource.getrlimit, resource.RLIMIT_CORE) == (0, 0)
    assert await pool.run(CLIENT, resource.getrlimit, resource.RLIMIT_DATA) == (MAX_BYTES, MAX_BYTES)
    assert await pool.run(CLIENT, Path.read_text, Path("/proc/self/oom_score_adj")) == "1000\n"
    assert b"secret" not in await pool.run(CLIENT, Path.read_bytes, Path("/proc/self/environ"))


async def test_processes_end_when_they_are_closed() -> None:
    """The process that works ends too, and leaves no zombie behind."""
    processes = Processes(2, MAX_BYTES, [])
    processes.start()
    ids = [await processes.reading.run("", os.getppid), await processes.reading.run("", os.getpid)]
    busy = asyncio.create_task(processes.writing.run(CLIENT, time.sleep, 600))
    await asyncio.sleep(0)

    processes.close()

    with pytest.raises(errors.ProcessLost):
        await busy
    for process in ids:
        await until_ended(process)


async def test_processes_end_with_a_service_that_is_killed() -> None:
    """Even a process that works ends at once."""
    service = await asyncio.create_subprocess_exec(sys.executable, "-c", SERVICE, stdout=subprocess.PIPE)
    assert service.stdout
    ids = [int(word) for word in (await service.stdout.readline()).split()]

    service.kill()
    await service.wait()

    assert len(ids) == 2
    for process in ids:
        await until_ended(process)


SERVICE = """
import asyncio, os, time
from service.offload.processes import Processes

async def main():
    reading = Processes(1, 2**29, []).reading
    print(await reading.run('', os.getppid), await reading.run('', os.getpid), flush=True)
    await reading.run('', time.sleep, 600)

asyncio.run(main())
"""


async def cancel(tasks: list[asyncio.Task[None]]) -> None:
    """Cancel the tasks, and wait until they have ended."""
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def until_ended(process: int) -> None:
    """Wait until a process has ended, though its parent may not know yet."""
    state = Path(f"/proc/{process}/stat")
    async with asyncio.timeout(60):
        with suppress(FileNotFoundError, ProcessLookupError):
            while ") Z " not in state.read_text():
                await asyncio.sleep(0.01)


async def test_process_leaves_the_processor_to_the_service(pool: Pool) -> None:
    """A process of the pool has a lower priority than the service."""
    assert await pool.run(CLIENT, os.getpriority, os.PRIO_PROCESS, 0) > os.getpriority(os.PRIO_PROCESS, 0)
