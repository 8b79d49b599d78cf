"""The event loop is not held up by what Python and the kernel do on the side."""

import os
import resource
import subprocess
import sys

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


def test_the_event_loop_has_short_slices_and_the_processes_that_it_makes_do_not() -> None:
    """The processes that read and write would else interrupt the event loop as it interrupts them."""
    told = subprocess.run([sys.executable, "-c", _SLICES], capture_output=True, text=True, check=False).stdout.split()
    if told[:2] != ["True", "True"]:
        pytest.skip("this system has no slices for each thread")

    assert told == ["True", "True", "3", "True", "3"]


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
