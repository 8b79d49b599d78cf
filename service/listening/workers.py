"""Several processes that answer on one port, each with one thread that computes.

Workers are forked after the models have been read and warmed up, so that they share the models in memory. The first
process answers no requests: it starts the workers, passes signals on to them, and replaces a worker that dies or hangs.
"""

from __future__ import annotations

import asyncio
import gc
import math
import os
import signal
import socket
import time
from collections.abc import Callable, Coroutine
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import structlog
import torch
from fastapi import FastAPI

from ..http.state import AppState
from ..telemetry.metrics import Metrics
from .server import PortSlot, Server, draining_signals
from .shared_port import ENDED, SharedPort

POLL_S = 1.0
TURN_S = 0.1
RESTART_S = 1.0  # a worker that dies at once, or that cannot be forked, is not started more often than this

log = structlog.get_logger()

CreateApp = Callable[[Metrics], FastAPI]
CreateServer = Callable[[FastAPI, PortSlot], Server]


def serve(port: socket.socket, workers: int, hang_s: float, create_app: CreateApp, create_server: CreateServer) -> None:
    """Serve one app with several processes until a signal; a worker without a heartbeat for `hang_s` is replaced.

    Raises:
        NoSuchDevice, StoreError: as `create_app` and reading the models raise them.
        CannotListen: another process has begun to listen at the port.
    """
    os.environ["MKL_DISABLE_FAST_MM"] = "1"  # MKL's lists of free memory, used before a fork, can be endless after
    # more threads would leave a pool behind, and a forked process would wait for it without end
    torch.set_num_threads(1)
    metrics = Metrics(workers)
    app = create_app(metrics)
    read_models(app)
    _Workers(app, SharedPort(port, workers), workers, hang_s, metrics, create_server).run()


def read_models(app: FastAPI) -> None:
    """Read and warm up the models, then end the threads that did it: a fork copies locks of threads, but no threads."""
    parts: AppState = app.state.parts

    def end(number: int, _: object) -> None:
        parts.registry.withdraw_attempts()
        os._exit(128 + number)

    handlers = {number: signal.signal(number, end) for number in draining_signals()}
    try:
        asyncio.run(_awake_until_done(parts.registry.refresh()))
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
        parts.registry.device.rest()
    gc.freeze()  # a collection would write to memory pages that the workers share, and so copy them


async def _awake_until_done(work: Coroutine[Any, Any, None]) -> None:
    """Do the work. A signal that comes just before the event loop waits is noticed when the loop turns again."""
    task = asyncio.create_task(work)
    while not task.done():
        await asyncio.wait([task], timeout=TURN_S)
    await task


@dataclass
class _Worker:
    """A worker that runs.

    Attributes:
        began: when it was forked.
        heartbeat: its last heartbeat that the first process has seen.
        silent_s: how long the first process has waited for another heartbeat.
    """

    number: int
    began: float
    heartbeat: float
    silent_s: float = 0.0


class _Workers:
    def __init__(
        self, app: FastAPI, port: SharedPort, count: int, hang_s: float, metrics: Metrics, create_server: CreateServer
    ) -> None:
        self._app = app
        self._port = port
        self._hang_s = hang_s
        self._metrics = metrics
        self._create_server = create_server
        parts: AppState = app.state.parts
        self._registry = parts.registry
        self._registry.share(count)
        self._running: dict[int, _Worker] = {}  # by process id
        self._due = dict.fromkeys(range(count), 0.0)  # the numbers of workers to start, and when
        self._cannot_fork = False
        self._is_stopping = False
        self._alive, self._parent = os.pipe()  # the kernel closes it when this process ends, however it ends

    def run(self) -> None:
        """Start the workers, and wait until all have ended after a signal."""
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # where it is ignored, the kernel tells no status of a child
        # Blocked signals wait for `sigwait`: none of them comes between a fork and the note of its process id, and the
        # kernel keeps them for process 1 of a container too. (After SIGCONT, `sigtimedwait` may return a signal that
        # was never sent: CPython 3.11.)
        draining = draining_signals()
        awaited = {signal.SIGCHLD, signal.SIGALRM, *draining}
        signal.pthread_sigmask(signal.SIG_BLOCK, awaited)
        signal.setitimer(signal.ITIMER_REAL, POLL_S, POLL_S)
        checked = time.monotonic()
        while self._running or self._due:
            self._start_due()
            arrived = signal.sigwait(awaited)
            if arrived in draining:
                self._stop(arrived)
            self._reap()
            before, checked = checked, time.monotonic()
            self._kill_hung(checked - before)

    def _start_due(self) -> None:
        """Start the workers whose time has come; a worker that cannot be forked is tried again later."""
        for number in [number for number, due in self._due.items() if due <= time.monotonic()]:
            self._port.heartbeat(number)
            try:
                process = os.fork()
            except OSError as error:  # too many processes, or no memory
                if not self._cannot_fork:
                    log.error("worker cannot be started", reason=error.strerror, retry_s=RESTART_S)
                self._cannot_fork = True
                self._due[number] = time.monotonic() + RESTART_S
                continue
            if not process:
                self._work(number)
            self._cannot_fork = False
            del self._due[number]
            self._running[process] = _Worker(number, time.monotonic(), self._port.last_heartbeat(number))

    def _work(self, number: int) -> None:
        """Be a worker, in a process that has been forked, until it ends."""
        status = 1
        try:
            for draining in draining_signals():  # they end the worker until the server handles them: it has no client
                signal.signal(draining, signal.SIG_DFL)
            signal.pthread_sigmask(signal.SIG_SETMASK, ())
            os.setpgid(0, 0)  # Ctrl-C on a terminal reaches the first process alone, which passes it on
            os.close(self._parent)
            self._metrics.worker_started(number)
            self._registry.join(number)
            self._create_server(self._app, PortSlot(number, self._port, self._alive)).run()
            status = 0
        except BaseException:
            log.exception("worker failed")
        finally:
            os._exit(status)

    def _reap(self) -> None:
        """Note which workers have ended, and when the next worker takes the place of each.

        Other children end as well: a process that has lost its parent becomes a child of process 1 of its container.
        """
        with suppress(ChildProcessError):  # all children have ended
            while (ended := os.waitpid(-1, os.WNOHANG))[0]:
                process, status = ended
                if not (worker := self._running.pop(process, None)):
                    continue
                self._metrics.worker_ended(worker.number)
                self._registry.agreement.leave(worker.number)
                self._port.set_connections(worker.number, ENDED)
                if not self._is_stopping:
                    log.error("worker died", process=process, status=os.waitstatus_to_exitcode(status))
                    self._due[worker.number] = worker.began + RESTART_S

    def _kill_hung(self, elapsed_s: float) -> None:
        """Kill the workers whose event loop has stopped; they would never answer their clients.

        All processes stop together when a container is paused, so the time counts only while this process runs.
        """
        for process, worker in self._running.items():
            heartbeat = self._port.last_heartbeat(worker.number)
            is_silent = heartbeat == worker.heartbeat and not math.isinf(heartbeat)
            worker.silent_s = worker.silent_s + min(elapsed_s, 2 * POLL_S) if is_silent else 0.0
            worker.heartbeat = heartbeat
            if worker.silent_s > self._hang_s:
                log.error("worker hangs", process=process, seconds=round(worker.silent_s, 1))
                os.kill(process, signal.SIGKILL)
                worker.silent_s = 0.0

    def _stop(self, number: int) -> None:
        """Pass a signal on to the workers, and start no more of them."""
        self._is_stopping = True
        self._due.clear()
        self._port.socket.close()  # the port is free as soon as the workers have closed theirs
        for process in self._running:  # those that have ended are not reaped yet, so that the id is still theirs
            os.kill(process, number)
