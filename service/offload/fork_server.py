"""`python -m service.offload.fork_server BYTES MODULE…`: forks the processes in which the service reads and writes.

This process imports the modules and then forks itself for each socket that it is sent. It is small: it knows neither
torch nor a model. It ends, with all that it has forked, when the service has closed its own end of standard input.

It does not know what the work is: a process receives a function with its arguments, and sends back the result.
"""

from __future__ import annotations

import gc
import os
import resource
import signal
import socket
import sys
import traceback
from contextlib import suppress
from importlib import import_module
from pathlib import Path

from . import messages

# A process that has used more memory than this ends after its work, since it would not give all of it back.
_KEPT_BYTES = 128 * 2**20
_DESCRIPTORS = 64
# With 5 and 7, small requests beside all attacks at once had a p99 of 23 to 38 ms, and with 10 one of 20 to 35. The
# price: where other programs keep the machine busy, a picture of 4 megapixels takes 2.6 s.
_NICE = 10
_EXPENDABLE = "1000"  # the kernel ends such a process before any other when memory runs out
_ONE_FORK = 1


def main(max_bytes: int, modules: list[str]) -> None:
    """Fork until the service ends."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):  # sent to all processes of a terminal or a group
        signal.signal(number, signal.SIG_IGN)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # the kernel forgets each process as soon as it has ended
    _step_back()
    _limit(max_bytes)
    for module in modules:
        import_module(module)
    gc.freeze()
    with socket.socket(fileno=sys.stdin.fileno()) as requests:
        while descriptors := socket.recv_fds(requests, _ONE_FORK, _ONE_FORK)[1]:
            _fork(socket.socket(fileno=descriptors[0]), requests)
    os.killpg(0, signal.SIGKILL)  # the service has made this process the leader of a group


def _step_back() -> None:
    """Leave the processor to the event loop, which answers all clients, when both want it."""
    os.nice(_NICE)
    # Where Linux groups processes by session, nice has no effect outside of this session, and the group has its own.
    with suppress(OSError):
        Path("/proc/self/autogroup").write_text(str(_NICE), encoding="ascii")


def _limit(max_bytes: int) -> None:
    """Bound what a process can do to the machine if a file makes a library run wild."""
    with suppress(OSError):  # not on Linux
        Path("/proc/self/oom_score_adj").write_text(_EXPENDABLE)
    for limit, value in {
        resource.RLIMIT_DATA: max_bytes,
        resource.RLIMIT_CORE: 0,
        resource.RLIMIT_FSIZE: 0,
        resource.RLIMIT_NOFILE: _DESCRIPTORS,
    }.items():
        _, hard = resource.getrlimit(limit)
        bound = value if hard == resource.RLIM_INFINITY else min(value, hard)
        resource.setrlimit(limit, (bound, bound))


def _fork(connection: socket.socket, requests: socket.socket) -> None:
    """Fork a process that works for this connection. Without memory for a process, the service finds it closed."""
    with connection, suppress(OSError):
        if os.fork():
            return
        try:
            requests.close()
            work(connection)
        finally:
            os._exit(0)


def work(connection: socket.socket) -> None:
    """Call the functions that arrive, and send back what they return or raise, until the service closes the connection.

    The first message tells the id of this process. Each of the others has a result, an error and whether this process
    has ended with it.
    """
    messages.send(connection, os.getpid())
    is_last = False
    with suppress(EOFError, OSError):
        while not is_last:
            function, *arguments = messages.receive(connection)
            result, error = None, None
            try:
                result = function(*arguments)
            except Exception as raised:
                kind = type(raised)  # of a library's own errors, the service knows no class
                is_known = messages.is_known_error(kind.__module__, kind.__qualname__)
                is_memory = isinstance(raised, MemoryError)  # NumPy has a subclass of its own
                unknown = MemoryError(str(raised)) if is_memory else RuntimeError(f"{kind.__qualname__}: {raised}")
                error = raised if is_known else unknown
                error.add_note(traceback.format_exc())  # for the log of the service: a pickle has no traceback
            is_last = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 > _KEPT_BYTES
            messages.send(connection, result, error, is_last)


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2:])
