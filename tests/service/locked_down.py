"""`python -m tests.service.locked_down STORE`: what a service answers here, and may do; for `test_locked_down`."""

import json
import os
import pwd
import signal
import sys
from pathlib import Path

import httpx

from ..process import Process, unharmed
from .wire import picture


def main() -> None:
    """Print it as JSON."""
    store = Path(sys.argv[1])
    process = Process(store, *sys.argv[2:], "--drain-s=0", HOME="/nonexistent")
    process.collect_log()
    process.wait_until_ready()
    answers = [
        httpx.get(f"{process.url}/readyz"),
        httpx.get(f"{process.url}/v1/sample?n=4"),
        httpx.post(f"{process.url}/v1/encode", content=picture(), headers={"Content-Type": "image/png"}),
        httpx.get(f"{process.url}/metrics"),
    ]
    harm = unharmed(process)
    process.signal(signal.SIGTERM)
    facts = {
        "statuses": [answer.status_code for answer in answers],
        "may write": [folder for folder in ("/", "/tmp", str(store)) if may_write(Path(folder))],  # noqa: S108  # nothing is written
        "name": os.getuid() in {user.pw_uid for user in pwd.getpwall()},
        "networks": [line.split(":")[0].strip() for line in Path("/proc/net/dev").read_text().splitlines()[2:]],
        "harm": harm,
        "status": process.end(),
    }
    print(json.dumps(facts))  # noqa: T201  # its answer


def may_write(folder: Path) -> bool:
    """Whether a file can be made there."""
    try:
        (folder / "written").touch()
    except OSError:
        return False
    return True


if __name__ == "__main__":
    main()
