"""Several processes that answer on one port, each with one thread that computes.

They are forked when the models are read and warmed up, and so share them in memory. The first process answers nobody:
it starts the others, passes signals on to them, and replaces one that dies, or hangs.
"""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import structlog
import torch
from fastapi import FastAPI

from ..http.state import Parts
from ..settings import Settings
from ..telemetry.metrics import forget, share
from .server import Server, Worker
from .shared_port import NOBODY, SharedPort, bound

LOOK_S = 1.0
RESTART_S = 1.0  # a worker that dies at once is not replaced more often
PASSED_ON = (signal.SIGTERM, signal.SIGINT)

log = structlog.get_logger()


def serve(settings: Settings, create_app: Callable[[Settings], FastAPI]) -> None:
    """Serve an app with as many processes as the settings say, until a signal.

    Raises:
        NoSuchDevice, StoreError: as the app raises them.
        CannotListen: as the port raises it.
    """
    with (
        tempfile.TemporaryDirectory(prefix="latentd-metrics-", dir=_in_memory()) as folder,
        bound(settings.host, settings.port) as port,
    ):
        share(Path(folder))
        os.environ["MKL_DISABLE_FAST_MM"] = "1"  # MKL's own memory lists, used before a fork, can be endless after it
        torch.set_num_threads(1)  # more would leave a pool behind, which a forked process waits for in vain
        app = create_app(settings)
        _read_models(app)
        _Workers(app, settings, SharedPort(port, settings.workers)).run()


def _in_memory() -> str | None:
    """A folder that is no disk's, where there is one: it can be written in a container that is read-only."""
    return "/dev/shm" if os.access("/dev/shm", os.W_OK) else None  # noqa: S108  # a folder of our own is made in it


def _read_models(app: FastAPI) -> None:
    """Read and warm up the models, and end every thread that did: only then may a process fork."""
    parts: Parts = app.state.parts
    try:
        asyncio.run(parts.engine.registry.refresh())
    finally:
        parts.engine.registry.device.rest()
    gc.freeze()  # a collection would write to pages that the workers share


class _Workers:
    def __init__(self, app: FastAPI, settings: Settings, port: SharedPort) -> None:
        self._app = app
        self._settings = settings
        self._port = port
        self._started: dict[int, tuple[int, float]] = {}  # by process, each one's number and when it was started
        self._is_stopping = False
        self._alive, self._parent = os.pipe()  # closed by the kernel when this process ends, however it ends

    def run(self) -> None:
        """Start them, and wait until the last has ended after a signal."""
        for awaited in PASSED_ON:
            signal.signal(awaited, self._pass_on)
        for number in range(self._settings.workers):
            self._start(number)
        signal.signal(signal.SIGALRM, self._look)
        signal.setitimer(signal.ITIMER_REAL, LOOK_S, LOOK_S)
        while self._started:
            self._ended(*os.wait())
        signal.setitimer(signal.ITIMER_REAL, 0)  # at its end Python takes its handlers away, and an alarm would kill it

    def _start(self, number: int) -> None:
        with _signals_wait():
            if self._is_stopping:
                return
            self._port.sign_on(number)
            if process := os.fork():
                self._started[process] = (number, time.monotonic())
                return
            for awaited in PASSED_ON:  # until the server takes them, they end it: nobody is connected yet
                signal.signal(awaited, signal.SIG_DFL)
        status = 1
        try:
            os.setpgid(0, 0)  # Ctrl-C on a terminal reaches the first process alone, which passes it on
            os.close(self._parent)
            Server(self._app, self._settings, Worker(number, self._port, self._alive)).run()
            status = 0
        except BaseException:
            log.exception("worker failed")
        finally:
            os._exit(status)

    def _ended(self, process: int, status: int) -> None:
        number, began = self._started.pop(process)
        forget(process)
        self._port.tell(number, NOBODY)
        if self._is_stopping:
            return
        log.error("worker died", process=process, status=os.waitstatus_to_exitcode(status))
        time.sleep(max(0.0, began + RESTART_S - time.monotonic()))
        self._read_again()
        self._start(number)

    def _read_again(self) -> None:
        """Read what was published since, so that the next worker is not behind the others when it begins to answer."""
        if self._is_stopping:
            return
        try:
            _read_models(self._app)
        except Exception as error:
            log.warning("store cannot be read", reason=str(error))

    def _look(self, *_: object) -> None:
        """End a worker whose event loop does not turn: nobody whom it has would ever be answered."""
        if self._is_stopping:
            return
        for process, (number, _began) in self._started.items():
            if (seconds := self._port.silence_s(number)) > self._settings.hang_s:
                log.error("worker hangs", process=process, seconds=round(seconds, 1))
                _send(process, signal.SIGKILL)

    def _pass_on(self, number: int, _: object) -> None:
        self._is_stopping = True
        self._port.socket.close()  # so that nobody is heard any more when the workers have closed theirs
        for process in self._started:
            _send(process, number)


def _send(process: int, number: int) -> None:
    with suppress(ProcessLookupError):  # it has just ended, and is about to be forgotten
        os.kill(process, number)


@contextmanager
def _signals_wait() -> Iterator[None]:
    """Those that are passed on come afterwards: they must not find a worker that is not known yet."""
    signal.pthread_sigmask(signal.SIG_BLOCK, PASSED_ON)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, PASSED_ON)
