"""The event loop is not held up by what Python and the kernel do on the side."""

import gc
import os
import platform
import resource
import subprocess
import sys
from collections.abc import Iterator

import pytest

from service.listening import short_turns

_TABLE = """
from pathlib import Path
from service.listening import short_turns

short_turns.make_room_for_files()
print(Path("/proc/self/status").read_text().partition("FDSize:")[2].split()[0])
"""


@pytest.mark.skipif(sys.platform != "linux", reason="the tables of other systems cannot be read")
def test_a_burst_of_clients_finds_room_in_the_table_of_files() -> None:
    """The kernel would stop the event loop each time the table grows."""
    told = subprocess.run([sys.executable, "-c", _TABLE], check=True, capture_output=True, text=True)

    assert int(told.stdout) >= min(short_turns.FILES, resource.getrlimit(resource.RLIMIT_NOFILE)[0])


def test_room_for_files_opens_none() -> None:
    """The descriptor by which the table grows is closed again."""
    before = os.listdir("/dev/fd")
    short_turns.make_room_for_files()

    assert os.listdir("/dev/fd") == before


_SLICES = """
import ctypes, os, struct
from service.listening import short_turns

def slice_ns():
    attributes = ctypes.create_string_buffer(48)
    ctypes.CDLL(None).syscall({"x86_64": 315, "aarch64": 275}[os.uname().machine], 0, attributes, 48, 0)
    return struct.unpack("<IIQiIQQQ", attributes.raw)[5]

os.nice(3)
before = slice_ns()
print(short_turns.ask_for_short_slices(), slice_ns() == short_turns.SLICE_NS, os.nice(0), flush=True)
if not os.fork():
    print(slice_ns() == before, os.nice(0), flush=True)
    os._exit(0)
os.wait()
"""


def grants_slices() -> bool:
    """Whether this kernel gives slices to threads."""
    version = tuple(int(part) for part in platform.release().split(".")[:2]) if sys.platform == "linux" else (0, 0)
    return version >= (6, 12) and platform.machine() in {"x86_64", "aarch64"}


@pytest.mark.skipif(not grants_slices(), reason="Linux gives slices to threads since version 6.12")
def test_the_event_loop_has_short_slices_and_the_processes_that_it_makes_do_not() -> None:
    """The processes that read and write would else interrupt the event loop as it interrupts them."""
    told = subprocess.run([sys.executable, "-c", _SLICES], capture_output=True, text=True, check=True)

    assert told.stdout.split() == ["True", "True", "3", "True", "3"]


@pytest.mark.skipif(sys.platform != "linux", reason="another system")
def test_a_service_that_may_not_ask_for_slices_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sandboxes and some C libraries refuse the calls."""

    def refuse(*_: object) -> int:
        raise PermissionError

    monkeypatch.setattr(os, "sched_getscheduler", refuse)

    assert not short_turns.ask_for_short_slices()


@pytest.fixture
def ordinary_settings() -> Iterator[None]:
    """Python's settings of before, afterwards."""
    thresholds, interval = gc.get_threshold(), sys.getswitchinterval()
    yield
    gc.set_threshold(*thresholds)
    sys.setswitchinterval(interval)
    gc.unfreeze()


@pytest.mark.usefixtures("ordinary_settings")
def test_collections_are_small_and_threads_give_the_lock_back_soon() -> None:
    """The event loop waits for both."""
    short_turns.keep_turns_short()

    assert gc.get_threshold() == short_turns.COLLECT_EACH
    assert sys.getswitchinterval() == pytest.approx(short_turns.LOCK_S)
    assert gc.get_freeze_count()


@pytest.mark.skipif(not hasattr(os, "SCHED_BATCH"), reason="another system")
def test_a_policy_that_the_operator_has_chosen_stays() -> None:
    """`chrt --batch 0 python -m service` is not undone."""
    code = (
        "import os; from service.listening.short_turns import ask_for_short_slices; "
        "os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0)); "
        "print(ask_for_short_slices(), os.sched_getscheduler(0) == os.SCHED_BATCH)"
    )
    told = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)

    assert told.stdout.split() == ["False", "True"]
