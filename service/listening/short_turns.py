"""Short turns: settings of Python and of the kernel that keep the event loop from being held up.

All clients wait while the event loop waits. The figures are of small requests beside all attacks at once
(`python -m tests.reliability.all_at_once`, two cores, November 2026).
"""

from __future__ import annotations

import ctypes
import fcntl
import gc
import os
import platform
import resource
import struct
import sys
from contextlib import suppress

# Connections and requests do not refer to each other in circles, so collections find next to nothing. With a thousand
# connections, each that visits all objects stops the event loop for 30 to 80 ms, each of 50,000 new objects for 9 to
# 34 ms, and each of 7,000 for 2 to 9 ms. So the youngest generation is collected after 1,000 new objects, the middle
# one after three such collections, and all objects after about ten million.
COLLECT_EACH = (1_000, 2, 2_500)

# Another thread keeps Python's lock for so long while the event loop waits for it. With Python's 5 ms, a thread that
# worked in Python for 80 ms held up a request for 160: the event loop gives the lock away at each read and each write.
LOCK_S = 0.0005

FILES = 16_384  # for which the kernel makes room at the start

# The event loop asks for a slice of the processor that is shorter than the slices of other threads and processes, so
# that it interrupts them as soon as it has something to do. The kernel allows 0.1 ms at least.
SLICE_NS = 100_000
_SCHED_SETATTR = {"x86_64": 314, "aarch64": 274}  # the numbers of the system call, which Python does not know
_SCHED_ATTR = "<IIQiIQQQ"  # size, policy, flags, nice, priority, runtime, deadline, period (linux/sched/types.h)
_RESET_ON_FORK = 0x01  # threads and processes that this thread makes have ordinary slices


def keep_turns_short() -> None:
    """Called in the event loop's thread when the service begins to listen."""
    gc.freeze()
    gc.set_threshold(*COLLECT_EACH)
    sys.setswitchinterval(LOCK_S)
    make_room_for_files()
    ask_for_short_slices()


def make_room_for_files() -> None:
    """Let the kernel grow its table of the files of this process now.

    The kernel doubles a full table, and in a process with threads it then waits until no processor reads the old one.
    So a burst of clients stopped the event loop five times, for up to 14 ms.
    """
    allowed, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    files = FILES if allowed == resource.RLIM_INFINITY else min(allowed, FILES)
    with suppress(OSError), open(os.devnull, "rb") as file:
        os.close(fcntl.fcntl(file, fcntl.F_DUPFD_CLOEXEC, files - 1))


def ask_for_short_slices() -> bool:
    """Ask the kernel for short slices for this thread; return whether it accepts. Linux grants them since version 6.12.

    It is not asked where an operator has chosen another policy or a negative nice: the flag that keeps the slices from
    new threads would reset theirs.
    """
    number = _SCHED_SETATTR.get(platform.machine())
    if sys.platform != "linux" or number is None:
        return False
    with suppress(OSError):  # some sandboxes forbid it
        nice = os.getpriority(os.PRIO_PROCESS, 0)
        if nice < 0 or os.sched_getscheduler(0) != os.SCHED_OTHER:
            return False
        size = struct.calcsize(_SCHED_ATTR)
        wanted = struct.pack(_SCHED_ATTR, size, os.SCHED_OTHER, _RESET_ON_FORK, nice, 0, SLICE_NS, 0, 0)
        refused: int = ctypes.CDLL(None).syscall(number, 0, wanted, 0)
        return not refused
    return False
