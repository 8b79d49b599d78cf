"""`python -m service.probe`: exit status 0 if the service on this machine is ready. For containers without curl.

With `--or-end`, a service that must be restarted is ended, so that the container's restart policy starts it again:
Docker itself only notes that a container is unhealthy.
"""

import os
import signal
import sys
import time
from contextlib import suppress
from http.client import HTTPConnection, HTTPException
from pathlib import Path

ANSWER_S = 3.0
TRIES = 3  # a service under load may miss one
PAUSE_S = 1.0  # between two tries
GRACE_S = 10.0  # between SIGTERM and SIGKILL


def main(arguments: list[str]) -> int:
    """Ask /readyz at the host and the port that the service's own settings name."""
    if arguments not in ([], ["--or-end"]):
        print("usage: python -m service.probe [--or-end]", file=sys.stderr)  # noqa: T201
        return 2
    try:
        is_ready = ask("/readyz") == 200
    except (OSError, HTTPException) as error:
        print(error or type(error).__name__, file=sys.stderr)  # noqa: T201  # the orchestrator shows it
        is_ready = False
    if not is_ready and arguments and must_be_restarted():
        end_service()
    return 0 if is_ready else 1


def ask(path: str) -> int:
    """The status of the answer.

    Raises:
        OSError, HTTPException: there is no answer.
    """
    host, port = os.environ.get("LATENTD_HOST") or "127.0.0.1", int(os.environ.get("LATENTD_PORT") or "8000")
    # a connection to 0.0.0.0 or :: reaches this machine
    connection = HTTPConnection(host, port, timeout=ANSWER_S)
    try:
        connection.request("GET", path, headers={"Host": "localhost"})  # a host that is always answered
        return connection.getresponse().status
    finally:
        connection.close()


def must_be_restarted() -> bool:
    """Whether /livez says so, or does not answer, several times in a row. A service that starts has its port closed."""
    for _ in range(TRIES):
        try:
            if ask("/livez") != 500:
                return False
        except ConnectionRefusedError:
            return False
        except (OSError, HTTPException):
            pass
        time.sleep(PAUSE_S)
    return True


def end_service() -> None:
    """End the processes of `python -m service` that belong to this user; the container then ends too."""
    print("the service must be restarted, and is ended", file=sys.stderr)  # noqa: T201  # the orchestrator shows it
    for number in (signal.SIGTERM, signal.SIGKILL):
        for folder in Path("/proc").glob("[0-9]*"):
            with suppress(OSError):  # it has ended, or belongs to another user
                if (folder / "cmdline").read_bytes().split(b"\0")[1:3] == [b"-m", b"service"]:
                    os.kill(int(folder.name), number)
        time.sleep(GRACE_S)


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
