"""Several processes that answer on one port, each with one thread that computes.

Workers are forked after the models have been read and warmed up, so that they share the models in memory. The first
process answers no requests: it starts the workers, passes signals on to them, and replaces a worker that dies or hangs.
"""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import socket
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import structlog
import torch
from fastapi import FastAPI

from ..http.state import AppState
from ..telemetry.metrics import Metrics
from .server import PortSlot, Server
from .shared_port import ENDED, SharedPort

POLL_S = 1.0
RESTART_S = 1.0  # a worker that dies at once is not replaced more often than this
PASSED_ON = (signal.SIGTERM, signal.SIGINT)

log = structlog.get_logger()

CreateApp = Callable[[Metrics], FastAPI]
CreateServer = Callable[[FastAPI, PortSlot], Server]


def serve(port: socket.socket, workers: int, hang_s: float, create_app: CreateApp, create_server: CreateServer) -> None:
    """Serve one app with several processes until a signal; a worker without a heartbeat for `hang_s` is replaced.

    Raises:
        NoSuchDevice, StoreError: as `create_app` and reading the models raise them.
        CannotListen: another process has begun to listen at the port.
    """
    in_memory = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None  # noqa: S108  # a container may have no other
    with tempfile.TemporaryDirectory(prefix="latentd-metrics-", dir=in_memory) as folder:
        metrics = Metrics(Path(folder))
        os.environ["MKL_DISABLE_FAST_MM"] = "1"  # MKL's lists of free memory, used before a fork, can be endless after
        # more threads would leave a pool behind, and a forked process would wait for it without end
        torch.set_num_threads(1)
        app = create_app(metrics)
        read_models(app)
        _Workers(app, SharedPort(port, workers), workers, hang_s, metrics, create_server).run()


def read_models(app: FastAPI) -> None:
    """Read and warm up the models, then end the threads that did it: a fork copies locks of threads, but no threads."""
    parts: AppState = app.state.parts
    try:
        asyncio.run(parts.registry.refresh())
    finally:
        parts.registry.device.rest()
    gc.freeze()  # a collection would write to memory pages that the workers share, and so copy them


class _Workers:
    def __init__(
        self, app: FastAPI, port: SharedPort, count: int, hang_s: float, metrics: Metrics, create_server: CreateServer
    ) -> None:
        self._app = app
        self._port = port
        self._count = count
        self._hang_s = hang_s
        self._metrics = metrics
        self._create_server = create_server
        self._started: dict[int, tuple[int, float]] = {}  # by process id: the worker's number, and when it started
        self._is_stopping = False
        self._alive, self._parent = os.pipe()  # the kernel closes it when this process ends, however it ends

    def run(self) -> None:
        """Start the workers, and wait until all have ended after a signal."""
        for awaited in PASSED_ON:
            signal.signal(awaited, self.pass_on)
        for number in range(self._count):
            self._start(number)
        signal.signal(signal.SIGALRM, self.kill_hung)
        signal.setitimer(signal.ITIMER_REAL, POLL_S, POLL_S)
        while self._started:
            self._replace(*os.wait())
        signal.setitimer(signal.ITIMER_REAL, 0)  # Python removes its handlers at its end, and an alarm would kill it

    def _start(self, number: int) -> None:
        # Signals wait: they must not arrive between a fork and the note of its process id.
        signal.pthread_sigmask(signal.SIG_BLOCK, PASSED_ON)
        try:
            if self._is_stopping:
                return
            self._port.heartbeat(number)
            if process := os.fork():
                self._started[process] = (number, time.monotonic())
                return
            for awaited in PASSED_ON:  # until the server handles them, they end the worker: no client has connected
                signal.signal(awaited, signal.SIG_DFL)
        finally:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, PASSED_ON)
        status = 1
        try:
            os.setpgid(0, 0)  # Ctrl-C on a terminal reaches the first process alone, which passes it on
            os.close(self._parent)
            self._create_server(self._app, PortSlot(number, self._port, self._alive)).run()
            status = 0
        except BaseException:
            log.exception("worker failed")
        finally:
            os._exit(status)

    def _replace(self, process: int, status: int) -> None:
        """Replace a worker that has ended, unless the service stops."""
        number, began = self._started.pop(process)
        self._metrics.worker_ended(process)
        self._port.set_connections(number, ENDED)
        if self._is_stopping:
            return
        log.error("worker died", process=process, status=os.waitstatus_to_exitcode(status))
        time.sleep(max(0.0, began + RESTART_S - time.monotonic()))
        if self._is_stopping:
            return
        try:
            read_models(self._app)  # newly published models too: the next worker then serves them at once
        except Exception as error:
            log.warning("store cannot be read", reason=str(error))
        self._start(number)

    def kill_hung(self, *_: object) -> None:
        """Called each second: kill the workers whose event loop has stopped; they would never answer their clients."""
        if self._is_stopping:
            return
        for process, (number, _began) in self._started.items():
            if (seconds := self._port.seconds_since_heartbeat(number)) > self._hang_s:
                log.error("worker hangs", process=process, seconds=round(seconds, 1))
                _send(process, signal.SIGKILL)

    def pass_on(self, number: int, _: object) -> None:
        """Called on SIGTERM or Ctrl-C: send the signal to the workers, and start no more of them."""
        self._is_stopping = True
        self._port.socket.close()  # the port is free as soon as the workers have closed theirs
        for process in self._started:
            _send(process, number)


def _send(process: int, number: int) -> None:
    with suppress(ProcessLookupError):  # it has just ended, and os.wait is about to say so
        os.kill(process, number)
