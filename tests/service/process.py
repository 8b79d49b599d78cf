"""The service as people start it, for tests."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path


class Process:
    """`python -m service` on a free port, and what it logs."""

    def __init__(self, store: Path, *flags: str, **environment: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "service", "--store", str(store), "--port", "0", "--log-format", "json", *flags],
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "OMP_NUM_THREADS": "1", "LATENTD_CACHE": os.devnull, **environment},
        )
        try:
            self.url = self.wait_for("listening")["address"]
        except BaseException:
            self.process.kill()
            self.end()
            raise

    def wait_for(self, event: str) -> dict[str, str]:
        """The next log line of that event; those before it are passed over."""
        assert self.process.stderr is not None
        for line in self.process.stderr:
            assert line.startswith("{"), f"no log line: {line}"
            entry = json.loads(line)
            if entry["event"] == event:
                return entry
        raise AssertionError(f"the service ended without {event}")

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal."""
        self.process.send_signal(number)

    def end(self) -> int:
        """Read what else it says, since it would wait where nobody does, and wait for its exit status."""
        assert self.process.stderr is not None
        if not self.process.stderr.closed:
            self.process.stderr.read()
            self.process.stderr.close()
        return self.process.wait(timeout=30)
