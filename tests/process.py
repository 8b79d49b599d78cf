"""The service as people start it, for tests; and whether it is as it was after what was done to it."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from urllib.parse import urlsplit

import httpx

READY_S, SETTLED_S = 60.0, 15.0


class Process:
    """`python -m service` on a free port, and what it logs."""

    def __init__(self, store: Path, *flags: str, **environment: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "service", "--store", str(store), "--port", "0", "--log-format", "json", *flags],
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "OMP_NUM_THREADS": "1", "LATENTD_CACHE": os.devnull, **environment},
        )
        self.said = ""  # since nobody asked any more
        self._listener: threading.Thread | None = None
        try:
            self.url = self.wait_for("listening")["address"]
        except BaseException:
            self.kill()
            raise

    @property
    def address(self) -> tuple[str, int]:
        """The host and the port on which it listens."""
        parts = urlsplit(self.url)
        return parts.hostname or "", parts.port or 80

    @property
    def pid(self) -> int:
        """Its number; with several workers that of the first process."""
        return self.process.pid

    def is_ready(self) -> bool:
        """Whether it says so."""
        return httpx.get(f"{self.url}/readyz").is_success

    def wait_until_ready(self) -> None:
        """Until it is, for a minute at most."""
        deadline = time.monotonic() + READY_S
        while not self.is_ready():
            assert time.monotonic() < deadline, "it is never ready"
            time.sleep(0.05)

    def wait_for(self, event: str) -> dict[str, str]:
        """The next log line of that event; those before it are passed over."""
        assert self.process.stderr is not None
        for line in self.process.stderr:
            assert line.startswith("{"), f"no log line: {line}"
            entry: dict[str, str] = json.loads(line)
            if entry["event"] == event:
                return entry
        raise AssertionError(f"the service ended without {event}")

    def let_it_talk(self) -> None:
        """Nobody will ask what it logs; it is read all the same, since it would wait where nobody does."""
        self._listener = threading.Thread(target=self._listen, daemon=True)
        self._listener.start()

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal."""
        self.process.send_signal(number)

    def kill(self) -> None:
        """End it at once."""
        self.process.kill()
        self.end()

    def end(self) -> int:
        """Its exit status, whatever else it says."""
        if self._listener is None:
            self.let_it_talk()
        assert self._listener
        self._listener.join(timeout=30)
        return self.process.wait(timeout=30)

    def _listen(self) -> None:
        assert self.process.stderr is not None
        if not self.process.stderr.closed:
            with self.process.stderr as log:
                self.said = log.read()


def unharmed(process: Process) -> list[str]:
    """What is wrong with it; a moment is left for what is under way. A bug, which has a traceback, is answered 500."""
    deadline = time.monotonic() + SETTLED_S
    while (wrong := _wrong(process)) and time.monotonic() < deadline:
        time.sleep(0.1)
    return wrong


def _wrong(process: Process) -> list[str]:
    metrics = httpx.get(f"{process.url}/metrics").text
    waiting = set(re.findall(r"(?m)^latentd_queue_images\{.*\} (\S+)$", metrics))
    wrong = [] if "latentd_requests_in_flight 1.0" in metrics else ["requests are still under way"]
    wrong += [] if waiting <= {"0.0"} else ["images still wait"]
    wrong += ["it has had a bug"] if re.search(r'(?m)^latentd_requests_total\{code="500"', metrics) else []
    return wrong + ([] if process.is_ready() else ["it is not ready"])
