"""The service as a process, as people start it; and a check that nothing is left of what a test did to it."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx

READY_S, SETTLED_S = 60.0, 15.0


class Process:
    """`python -m service` on a free port, and its log."""

    def __init__(self, store: Path, *flags: str, **environment: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "service", "--store", str(store), "--port", "0", "--log-format", "json", *flags],
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "OMP_NUM_THREADS": "1", "LATENTD_CACHE": os.devnull, **environment},
        )
        self.logged = ""  # the log after the last line that `wait_for` has read
        self._listener: threading.Thread | None = None
        try:
            self.url = self.wait_for("listening")["address"]
        except BaseException:
            self.kill()
            raise

    @property
    def address(self) -> tuple[str, int]:
        """The host and the port on which the service listens."""
        parts = urlsplit(self.url)
        return parts.hostname or "", parts.port or 80

    @property
    def pid(self) -> int:
        """The process id; with several workers that of the first process."""
        return self.process.pid

    def is_ready(self) -> bool:
        """Whether the service says that it is ready."""
        return httpx.get(f"{self.url}/readyz").is_success

    def wait_until_ready(self) -> None:
        """Wait until the service is ready, for at most a minute."""
        deadline = time.monotonic() + READY_S
        while not self.is_ready():
            assert time.monotonic() < deadline, "the service did not become ready"
            time.sleep(0.05)

    def wait_for(self, event: str) -> dict[str, Any]:
        """The next log line of an event; the lines before it are skipped."""
        assert self.process.stderr is not None
        for line in self.process.stderr:
            assert line.startswith("{"), f"not a line of the log: {line}"
            entry: dict[str, Any] = json.loads(line)
            if entry["event"] == event:
                return entry
        raise AssertionError(f"the service ended without the event {event}")

    def collect_log(self) -> None:
        """Read the rest of the log in a thread, so that its pipe does not fill up."""
        self._listener = threading.Thread(target=self._listen, daemon=True)
        self._listener.start()

    def signal(self, number: signal.Signals) -> None:
        """Send the process a signal."""
        self.process.send_signal(number)

    def kill(self) -> None:
        """Kill the process."""
        self.process.kill()
        self.end()

    def end(self) -> int:
        """Wait for the end of the process and return its exit status."""
        if self._listener is None:
            self.collect_log()
        assert self._listener
        self._listener.join(timeout=30)
        return self.process.wait(timeout=30)

    def _listen(self) -> None:
        assert self.process.stderr is not None
        if not self.process.stderr.closed:
            with self.process.stderr as log:
                self.logged = log.read()


def free_port() -> int:
    """A port at which no program listens now."""
    with socket.create_server(("127.0.0.1", 0)) as port:
        number: int = port.getsockname()[1]
    return number


def customized(folder: Path, code: str) -> str:
    """A PYTHONPATH with which each Python process runs the code before all else."""
    (folder / "sitecustomize.py").write_text(code, encoding="utf-8")
    return f"{folder}:{os.environ.get('PYTHONPATH', '.')}"


def unharmed(process: Process, within_s: float = SETTLED_S) -> list[str]:
    """The problems of a service after a test, once its requests have had time to end; a bug is an answer 500."""
    deadline = time.monotonic() + within_s
    while (wrong := _problems(process)) and time.monotonic() < deadline:
        time.sleep(0.1)
    return wrong


def _problems(process: Process) -> list[str]:
    metrics = httpx.get(f"{process.url}/metrics").text
    waiting = set(re.findall(r"(?m)^latentd_queue_images\{.*\} (\S+)$", metrics))
    wrong = [] if "latentd_requests_in_flight 1.0" in metrics else ["requests are still under way"]
    wrong += [] if waiting <= {"0.0"} else ["images still wait"]
    wrong += ["it has had a bug"] if re.search(r'(?m)^latentd_requests_total\{code="500"', metrics) else []
    return wrong + ([] if process.is_ready() else ["it is not ready"])
